// OutcryBars.mq5 - an expert that posts each closed bar to an Outcry server over HTTP and prints its probabilities. It sends
// no order. The twin of bars_http.py, which the tests run; this file was not compiled by them (MetaTrader is not there).
// Before: Tools, Options, Expert Advisors, "Allow WebRequest for listed URL": the server's address. The server listens on
// loopback only unless it has a token and TLS: run it on the terminal's machine, or give Token and an https address.
#property strict

input string Server = "http://127.0.0.1:8080";
input string Model = "gbp";
input string Token = "";        // serve.token_file's content where the server asks for one
input int TimeoutMs = 1000;

datetime last_bar = 0;
long number = 0, run_length = 0;
bool started = false;

// The model's features, in its order. Here: five of a bar, on the close before it. Yours as `outcry build` computed them.
string Row(const MqlRates &bar, const MqlRates &before)
{
   double c = before.close;
   return StringFormat("%.9g,%.9g,%.9g,%.9g,%.9g", MathLog(bar.open / c), MathLog(bar.high / c), MathLog(bar.low / c),
                       MathLog(bar.close / c), MathLog(1.0 + (double)bar.tick_volume));
}

int Ask(const string row, const bool start, string &said)
{
   string head = "Content-Type: application/json\r\n", back;
   if(Token != "") head += "Authorization: Bearer " + Token + "\r\n";
   string body = StringFormat("{\"parameters\":{\"sequence_id\":\"%s\",\"symbol\":\"%s\",\"sequence\":%I64d,\"run_length\":%I64d%s},"
                              "\"inputs\":[{\"name\":\"window\",\"shape\":[1,1,5],\"datatype\":\"FP32\",\"data\":[%s]}]}",
                              _Symbol, _Symbol, number, run_length, start ? ",\"sequence_start\":true" : "", row);
   char data[], answer[];
   int bytes = StringToCharArray(body, data, 0, WHOLE_ARRAY, CP_UTF8);
   ArrayResize(data, bytes - 1);       // the last one is its NUL
   int code = WebRequest("POST", Server + "/v2/models/" + Model + "/infer", head, TimeoutMs, data, answer, back);
   said = CharArrayToString(answer, 0, WHOLE_ARRAY, CP_UTF8);
   return code;
}

void OnTick()
{
   MqlRates bars[];
   ArraySetAsSeries(bars, true);
   if(CopyRates(_Symbol, _Period, 0, 3, bars) != 3 || bars[1].time == last_bar) return;
   bool gap = last_bar != 0 && bars[2].time != last_bar;   // bars were missed: the window begins anew
   last_bar = bars[1].time;
   number++;
   run_length = gap ? 1 : run_length + 1;
   string said, row = Row(bars[1], bars[2]);
   int code = Ask(row, !started, said);
   if(code == 404 && started)          // the server was started anew
   {
      run_length = 1;
      code = Ask(row, true, said);
   }
   if(code == 200) started = true;
   PrintFormat("%d %s", code, code == -1 ? "no answer: error " + IntegerToString(GetLastError()) : said);
}
