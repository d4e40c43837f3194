"""tools/deploy's Grafana dashboard and Prometheus rules against a running server: both are well formed,
every series and label that they name is in /metrics, counters are taken by rate or increase, quantiles from buckets by
le, every rule says what it is and what to do. Then faults that this must find are planted.

usage: check_monitoring.py OUTCRY MAKE_BUNDLE SOURCE
"""
import atexit
import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

OUTCRY, MAKE_BUNDLE, SOURCE = sys.argv[1:4]
started = []
atexit.register(lambda: [process.kill() for process in started if process.poll() is None])
FUNCTIONS = {"sum", "max", "by", "rate", "increase", "changes", "histogram_quantile", "label_values", "le"}
ADDED = {"job", "instance"}     # labels that Prometheus adds itself


def metrics(work):
    """Names with their types and labels, of a server that was asked nothing; labels with the values that they have."""
    arguments = [OUTCRY, "serve", f"{SOURCE}/configs/serve.yaml"]
    for pair in (f"model.bundle={work}/b/0", "serve.http=127.0.0.1:0", f"serve.socket={work}/s.sock"):
        arguments += ["--set", pair]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.append(server)
    address = re.search(r"http://(127\.0\.0\.1:\d+)", server.stdout.readline()).group(1)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    labels = {}
    for name, inside in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.M):
        for label, value in re.findall(r'(\w+)="([^"]*)"', inside) or [(None, None)]:
            labels.setdefault(name, {}).setdefault(label, set()).add(value)
    others = ("up", "outcry_tls_expiry_seconds")    # Prometheus' own; with TLS alone: check_secrets.py sees it there
    return {**kinds, **{name: "gauge" for name in others}}, {**labels, **{name: {} for name in others}}


def family(name, kinds):
    short = re.sub("_(bucket|sum|count)$", "", name)
    return short if kinds.get(short) == "histogram" else name


def expression_faults(text, kinds, labels):
    bare = re.sub(r'"[^"]*"|\$\{?\w+\}?', "", text)
    if text.count("(") != text.count(")") or text.count("{") != text.count("}"):
        yield f"brackets: {text}"
    for name in re.findall(r"[a-z_]\w*(?=\{|\[|\)| |,|$)", re.sub(r"\{[^}]*\}|by \([^)]*\)|\[\w+\]", "", bare)):
        if name in FUNCTIONS or re.fullmatch(r"\d.*", name):
            continue
        if name not in labels:
            yield f"no such series: {name}"
            continue
        for label, wanted in re.findall(rf'{name}\{{[^}}]*?(\w+)=~?"([^"$]*)"', text):
            for value in set(wanted.split("|")) - labels[name].get(label, set()) if label not in ADDED else ():
                yield f"{name} has no {label} {value} from the start, so that its first count is no rise"
        cumulative = kinds[family(name, kinds)] in ("counter", "histogram")
        if cumulative and not re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[\d+[smh]\]\)", text):
            yield f"a counter without rate or increase: {name}"
        used = {label for inside in re.findall(rf"{name}\{{([^}}]*)\}}", text)
                for label in re.findall(r"(\w+)=", inside)}
        grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")}
        for label in (used | grouped) - set(labels[name]) - ADDED:
            yield f"no such label of {name}: {label}"
    if "histogram_quantile" in text and not ("_bucket" in text and re.search(r"by \([^)]*\ble\b", text)):
        yield f"a quantile without buckets by le: {text}"


def dashboard_faults(text, kinds, labels):
    board = json.loads(text)
    if len({panel["id"] for panel in board["panels"]}) != len(board["panels"]) or len(board["panels"]) < 8:
        yield "panels"
    for panel in board["panels"]:
        if not (panel["title"] and panel["targets"] and panel["fieldConfig"]["defaults"]["unit"]):
            yield f"panel {panel['id']}: title, targets, unit"
        for target in panel["targets"]:
            if "job=\"$job\"" not in target["expr"]:
                yield f"panel {panel['id']}: of every job: {target['expr']}"
            yield from expression_faults(target["expr"], kinds, labels)


def rules_of(text):
    """The rules of this one shape of YAML: each a list item of six known lines."""
    item = re.compile(r"      - alert: (\w+)\n        expr: '([^'\n]+)'\n        for: (\d+[smh])\n        labels:\n"
                      r"          severity: (page|warn)\n        annotations:\n          summary: \"([^\"\n]+)\"\n"
                      r"          description: \"([^\"\n]+)\"\n")
    rest = re.sub(r"^#.*\n", "", text, flags=re.M).removeprefix("groups:\n  - name: outcry\n    rules:\n")
    return item.findall(rest), item.sub("", rest)


def rule_faults(text, kinds, labels):
    rules, rest = rules_of(text)
    if rest.strip():
        yield f"not a rule: {rest[:200]}"
    if len({name for name, *_ in rules}) != len(rules) or len(rules) < 10:
        yield "rules: too few, or one twice"
    for _, expression, *_ in rules:
        if not re.search(r"(==|>|<) [0-9.]+$", expression):
            yield f"no bound: {expression}"
        yield from expression_faults(re.sub(r" (==|>|<) [0-9.]+$", "", expression), kinds, labels)


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([MAKE_BUNDLE, f"{folder}/b"], check=True)
    known = metrics(folder)
board_text = open(f"{SOURCE}/tools/deploy/grafana-dashboard.json", encoding="utf-8").read()
rules_text = open(f"{SOURCE}/tools/deploy/prometheus-alerts.yaml", encoding="utf-8").read()
faults = [*dashboard_faults(board_text, *known), *rule_faults(rules_text, *known)]
assert not faults, "\n".join(faults)
for check, whole, right, wrong in (
        (rule_faults, rules_text, "outcry_replies_dropped_total", "outcry_replies_lost_total"),
        (rule_faults, rules_text, "increase(outcry_replies_dropped_total[5m])", "outcry_replies_dropped_total"),
        (rule_faults, rules_text, 'reason=~"token', 'cause=~"token'),
        (rule_faults, rules_text, 'reason=~"token', 'reason=~"tokens'),
        (rule_faults, rules_text, 'state="failed"', 'state="fails"'), (rule_faults, rules_text, "> 0.9'", "'"),
        (rule_faults, rules_text, "(le, instance)", "(instance)"), (rule_faults, rules_text, "        for: 30s\n", ""),
        (rule_faults, rules_text, "OutcrySlow", "OutcryDown"),
        (dashboard_faults, board_text, "outcry_sessions{", "outcry_session{"),
        (dashboard_faults, board_text, "sum by (le)", "sum by (ge)"),
        (dashboard_faults, board_text, "rate(outcry_replies_dropped_total", "(outcry_replies_dropped_total")):
    assert right in whole and list(check(whole.replace(right, wrong, 1), *known)), ("not found:", right, wrong)
print(f"{len(rules_of(rules_text)[0])} rules and {len(json.loads(board_text)['panels'])} panels name what is there")
