/* fake_cudnn_math.cpp - the LSTM of the double of cuDNN, by plain loops in double; numbers are stored in the
 * descriptors' type. Its weight space is laid out like nobody else's. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include "emulation/fake_cudnn.cuh"

namespace fake
{
enum { GAP = 5 }; /* elements that belong to nobody */
enum : uint32_t { FRESH = 0xf0f0f0f1, GRADIENTS = 0xd0d0d0d1 };

bool told(const char *variable, const char *name)
{
    const char *text = getenv(variable);
    return text && strcmp(text, name) == 0;
}

size_t bytes_of(cudnnDataType_t type)
{
    return type == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

static float rounded(float x, int low)
{
    if (!std::isfinite(x)) return x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + (1u << (low - 1))) >> low << low;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double get(const void *base, size_t i, cudnnDataType_t type)
{
    float x;
    uint32_t bits = 0;
    if (type != CUDNN_DATA_BFLOAT16) {
        memcpy(&x, static_cast<const unsigned char *>(base) + 4 * i, 4);
        return static_cast<double>(x);
    }
    memcpy(reinterpret_cast<unsigned char *>(&bits) + 2, static_cast<const unsigned char *>(base) + 2 * i, 2);
    memcpy(&x, &bits, sizeof x);
    return static_cast<double>(x);
}

static void put(void *base, size_t i, cudnnDataType_t type, double value)
{
    float x = static_cast<float>(value);
    if (type != CUDNN_DATA_BFLOAT16) {
        memcpy(static_cast<unsigned char *>(base) + 4 * i, &x, 4);
        return;
    }
    x = rounded(x, 16);
    memcpy(static_cast<unsigned char *>(base) + 2 * i, reinterpret_cast<const unsigned char *>(&x) + 2, 2);
}

/* What enters a product. */
static double operand(double x, const cudnnRNNStruct &r)
{
    return r.type == CUDNN_DATA_FLOAT && r.math == CUDNN_DEFAULT_MATH
               ? static_cast<double>(rounded(static_cast<float>(x), 13))
               : x;
}

/* ---------------------------------------------------------------- the weight space
 * Layers from the last to the first; in each the biases, then the matrices, linear layers 7 … 0, a gap behind each. */
size_t columns_of(const cudnnRNNStruct &r, int layer, int which)
{
    return static_cast<size_t>(which < GATES && layer == 0 ? r.inputs : r.hidden);
}

size_t place_of(const cudnnRNNStruct &r, int layer, int which, bool bias)
{
    size_t at = GAP;
    for (int l = r.layers - 1; l >= 0; l--)
        for (int part = 0; part < 2; part++)
            for (int w = 2 * GATES - 1; w >= 0; w--) {
                if (l == layer && w == which && (part == 0) == bias) return at;
                at += static_cast<size_t>(r.hidden) * (part == 0 ? 1 : columns_of(r, l, w)) + GAP;
            }
    return at; /* its end */
}

/* Rows of gate g in our loops: i, f, g, o as cuDNN numbers its linear layers. */
static int which_of(int gate, bool recurrent)
{
    const int swapped[GATES] = {1, 0, 2, 3};
    return (told("OUTCRY_FAKE_PLANT", "gates") ? swapped[gate] : gate) + (recurrent ? GATES : 0);
}

/* ---------------------------------------------------------------- what is kept */
/* Kept from forward to backward, a layer: gates, cells, outputs as f32; a word in front tells what it is. */
struct layer_memory {
    float *gates, *cells, *out;
};
static size_t states_of(const work &w)
{
    return static_cast<size_t>(w.steps) * static_cast<size_t>(w.batch) * static_cast<size_t>(w.r.hidden);
}
static layer_memory memory_of(const work &w, int layer)
{
    float *base = reinterpret_cast<float *>(w.kept) + 16 + 6 * states_of(w) * static_cast<size_t>(layer);
    return {base, base + 4 * states_of(w), base + 5 * states_of(w)};
}
size_t kept_bytes(const cudnnRNNStruct &r, size_t states)
{
    return 64 + 24 * states * static_cast<size_t>(r.layers);
}

static void touch(const void *at, size_t bytes, bool writes)
{
    outcry_emulation_door->touch(at, bytes, writes);
}

static double input_of(const work &w, int layer, size_t row, size_t k)
{
    return layer == 0 ? get(w.x, row * static_cast<size_t>(w.r.inputs) + k, w.r.type)
                      : static_cast<double>(memory_of(w, layer - 1).out[row * static_cast<size_t>(w.r.hidden) + k]);
}

static double weight(const work &w, int layer, int gate, bool recurrent, size_t unit, size_t k)
{
    const int which = which_of(gate, recurrent);
    return get(w.space, place_of(w.r, layer, which, false) + unit * columns_of(w.r, layer, which) + k, w.r.type);
}

static std::vector<double> matrix_of(const work &w, int layer, int gate, bool recurrent)
{
    const size_t hidden = static_cast<size_t>(w.r.hidden), columns = columns_of(w.r, layer, recurrent ? GATES : 0);
    std::vector<double> m(hidden * columns);
    for (size_t u = 0; u < hidden; u++)
        for (size_t k = 0; k < columns; k++) m[u * columns + k] = operand(weight(w, layer, gate, recurrent, u, k), w.r);
    return m;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void forward_layer(const work &w, int layer)
{
    const size_t hidden = static_cast<size_t>(w.r.hidden), batch = static_cast<size_t>(w.batch),
                 inputs = columns_of(w.r, layer, 0);
    const layer_memory m = memory_of(w, layer);
    std::vector<double> ih[GATES], hh[GATES];
    for (int g = 0; g < GATES; g++) {
        ih[g] = matrix_of(w, layer, g, false);
        hh[g] = matrix_of(w, layer, g, true);
    }
    for (size_t row = 0; row < static_cast<size_t>(w.steps) * batch; row++)
        for (size_t u = 0; u < hidden; u++) {
            const size_t at = row * hidden + u, before = (row - batch) * hidden;
            double a[GATES];
            for (int g = 0; g < GATES; g++) {
                double sum = get(w.space, place_of(w.r, layer, which_of(g, false), true) + u, w.r.type) +
                             get(w.space, place_of(w.r, layer, which_of(g, true), true) + u, w.r.type);
                for (size_t k = 0; k < inputs; k++)
                    sum += operand(input_of(w, layer, row, k), w.r) * ih[g][u * inputs + k];
                for (size_t k = 0; row >= batch && k < hidden; k++)
                    sum += operand(static_cast<double>(m.out[before + k]), w.r) * hh[g][u * hidden + k];
                a[g] = g == 2 ? tanh(sum) : sigmoid(sum);
                m.gates[row * 4 * hidden + static_cast<size_t>(g) * hidden + u] = static_cast<float>(a[g]);
            }
            const double c = a[1] * (row >= batch ? static_cast<double>(m.cells[before + u]) : 0) + a[0] * a[2];
            m.cells[at] = static_cast<float>(c);
            const float h = static_cast<float>(a[3] * tanh(c));
            m.out[at] = w.r.type == CUDNN_DATA_BFLOAT16 ? rounded(h, 16) : h;
        }
}

void forward(const void *packet)
{
    work w;
    memcpy(&w, packet, sizeof w);
    const size_t states = states_of(w), kept = kept_bytes(w.r, states);
    const uint32_t fresh = FRESH;
    touch(w.x, states / static_cast<size_t>(w.r.hidden) * static_cast<size_t>(w.r.inputs) * bytes_of(w.r.type), false);
    touch(w.space, place_of(w.r, -1, 0, false) * bytes_of(w.r.type), false);
    touch(w.workspace, WORK_BYTES, true);
    memset(w.workspace, 0xff, WORK_BYTES);
    memset(w.kept, 0xff, kept);
    for (int layer = 0; layer < w.r.layers; layer++) forward_layer(w, layer);
    memcpy(w.kept, &fresh, sizeof fresh);
    const layer_memory last = memory_of(w, w.r.layers - 1);
    for (size_t i = 0; i < states; i++) put(w.out_y, i, w.r.type, static_cast<double>(last.out[i]));
    touch(w.kept, kept, true);
    touch(w.out_y, states * bytes_of(w.r.type), true);
}

/* gates become the gradients of their pre-activations; dx [T][B][inputs]. */
static std::vector<double> backward_layer(const work &w, int layer, const std::vector<double> &dy)
{
    const size_t hidden = static_cast<size_t>(w.r.hidden), batch = static_cast<size_t>(w.batch),
                 inputs = columns_of(w.r, layer, 0), rows = static_cast<size_t>(w.steps) * batch;
    const layer_memory m = memory_of(w, layer);
    std::vector<double> dh(dy), dc(states_of(w), 0.0), dx(rows * inputs, 0.0);
    std::vector<double> ih[GATES], hh[GATES];
    for (int g = 0; g < GATES; g++) {
        ih[g] = matrix_of(w, layer, g, false);
        hh[g] = matrix_of(w, layer, g, true);
    }
    for (size_t row = rows; row-- > 0;)
        for (size_t u = 0; u < hidden; u++) {
            const size_t at = row * hidden + u;
            float *gates = m.gates + row * 4 * hidden + u;
            const double i = static_cast<double>(gates[0]), f = static_cast<double>(gates[hidden]),
                         g = static_cast<double>(gates[2 * hidden]), o = static_cast<double>(gates[3 * hidden]);
            const double squashed = tanh(static_cast<double>(m.cells[at])),
                         before = row >= batch ? static_cast<double>(m.cells[at - batch * hidden]) : 0;
            const double d = dc[at] + dh[at] * o * (1 - squashed * squashed);
            const double a[GATES] = {d * g * i * (1 - i), d * before * f * (1 - f), d * i * (1 - g * g),
                                     dh[at] * squashed * o * (1 - o)};
            if (row >= batch) dc[at - batch * hidden] = d * f;
            for (int n = 0; n < GATES; n++) {
                const double rough = operand(a[n], w.r);
                gates[static_cast<size_t>(n) * hidden] = static_cast<float>(a[n]);
                for (size_t k = 0; k < inputs; k++) dx[row * inputs + k] += rough * ih[n][u * inputs + k];
                for (size_t k = 0; row >= batch && k < hidden; k++)
                    dh[(row - batch) * hidden + k] += rough * hh[n][u * hidden + k];
            }
        }
    return dx;
}

/* Called on what forward did not leave, nothing it says is a number. */
static bool is(const work &w, uint32_t wanted)
{
    uint32_t word;
    memcpy(&word, w.kept, sizeof word);
    return word == wanted;
}

void backward_data(const void *packet)
{
    work w;
    memcpy(&w, packet, sizeof w);
    const size_t states = states_of(w), element = bytes_of(w.r.type), kept = kept_bytes(w.r, states),
                 inputs = states / static_cast<size_t>(w.r.hidden) * static_cast<size_t>(w.r.inputs);
    const uint32_t gradients = GRADIENTS;
    touch(w.kept, kept, false);
    touch(w.dy, states * element, false);
    touch(w.y, states * element, false);
    std::vector<double> d(states);
    bool good = is(w, FRESH);
    for (size_t i = 0; i < states; i++) d[i] = get(w.dy, i, w.r.type);
    const layer_memory last = memory_of(w, w.r.layers - 1);
    for (size_t i = 0; i < states; i++) {
        const double y = get(w.y, i, w.r.type), mine = static_cast<double>(last.out[i]);
        good = good && (y == mine || (std::isnan(y) && std::isnan(mine)));
    }
    for (int layer = w.r.layers - 1; layer >= 0; layer--) d = backward_layer(w, layer, d);
    for (size_t i = 0; i < inputs; i++) put(w.dx, i, w.r.type, good ? d[i] : static_cast<double>(NAN));
    touch(w.dx, inputs * element, true);
    memcpy(w.kept, &gradients, sizeof gradients);
    touch(w.kept, kept, true);
    memset(w.workspace, 0xff, WORK_BYTES);
    touch(w.workspace, WORK_BYTES, true);
}

void backward_weights(const void *packet)
{
    work w;
    memcpy(&w, packet, sizeof w);
    const size_t hidden = static_cast<size_t>(w.r.hidden), batch = static_cast<size_t>(w.batch),
                 rows = static_cast<size_t>(w.steps) * batch, space = place_of(w.r, -1, 0, false) * bytes_of(w.r.type);
    const bool good = is(w, GRADIENTS);
    touch(w.kept, kept_bytes(w.r, states_of(w)), false);
    touch(w.x, rows * static_cast<size_t>(w.r.inputs) * bytes_of(w.r.type), false);
    touch(w.dspace, space, false);
    for (int layer = 0; layer < w.r.layers; layer++)
        for (int n = 0; n < 2 * GATES; n++) {
            const bool recurrent = n >= GATES;
            const layer_memory m = memory_of(w, layer);
            const size_t columns = columns_of(w.r, layer, n), gate = static_cast<size_t>(n % GATES);
            const int which = which_of(n % GATES, recurrent);
            for (size_t u = 0; u < hidden; u++) {
                const float *dgate = m.gates + gate * hidden + u;
                for (size_t k = 0; k <= columns; k++) { /* the last is the bias */
                    double sum = good ? 0.0 : static_cast<double>(NAN);
                    for (size_t row = recurrent && k < columns ? batch : 0; row < rows; row++) {
                        const double d = static_cast<double>(dgate[row * 4 * hidden]);
                        const double x = k == columns ? 1
                                         : recurrent  ? static_cast<double>(m.out[(row - batch) * hidden + k])
                                                      : input_of(w, layer, row, k);
                        sum += k == columns ? d : operand(d, w.r) * operand(x, w.r);
                    }
                    const size_t at = place_of(w.r, layer, which, k == columns) + (k == columns ? u : u * columns + k);
                    put(w.dspace, at, w.r.type, get(w.dspace, at, w.r.type) + sum); /* adds */
                }
            }
        }
    touch(w.dspace, space, true);
    memset(w.workspace, 0xff, WORK_BYTES);
    touch(w.workspace, WORK_BYTES, true);
}

} // namespace fake
