/* lstm_choice.cu - the choice of choice.cuh for a shape, a device and the environment. */
#include <string.h>
#include "kernels/cuda/choice.cuh"
#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"

static const struct variant {
    const char *name;
    bool persistent, fused, wave;
} variants[] = {
#define ROW(name, text, persistent, fused, wave) {text, persistent, fused, wave},
    OC_LSTM_VARIANTS(ROW)
#undef ROW
};

static const struct choice {
    oc_math math;
    int hidden_max, batch_max, inputs_max;
    oc_lstm_variant variant;
    const char *rests_on;
} choices[] = {
#define ROW(math, hidden, batch, inputs, variant, rests_on) {math, hidden, batch, inputs, variant, rests_on},
    OC_LSTM_CHOICES(ROW)
#undef ROW
};

static bool serves(oc_backend *b, const oc_lstm_shape *s, int layer, oc_lstm_variant v)
{
    const oc_cuda *c = oc_cuda_of(b);
    if (!variants[v].persistent) return true;
    if (oc_scan_units(s->hidden) == 0 || c->shared_max < OC_SHARED_MAX_80) return false;
    return !variants[v].fused || oc_cuda_lstm_fused_serves(b, s->hidden, oc_cuda_layer_inputs(s, layer));
}

oc_status oc_cuda_lstm_insist(oc_backend *b, const char *name)
{
    oc_cuda *c = oc_cuda_of(b);
    c->lstm_variant = -1;
    if (!name || !*name) return OC_OK;
    for (int i = 0; i < OC_LSTM_VARIANT_COUNT; i++)
        if (strcmp(name, variants[i].name) == 0) c->lstm_variant = i;
    if (c->lstm_variant >= 0) return OC_OK;
#define NAME(name, text, persistent, fused, wave) " " text
    return OC_FAIL(OC_ECONFIG, "OUTCRY_CUDA_LSTM is \"%.40s\", not one of" OC_LSTM_VARIANTS(NAME), name);
#undef NAME
}

oc_status oc_cuda_lstm_choose(oc_backend *b, const oc_lstm_shape *s, int layer, bool training, oc_lstm_plan *plan)
{
    const int wish = oc_cuda_of(b)->lstm_variant, inputs = oc_cuda_layer_inputs(s, layer);
    const int batch = training ? s->batch : OC_ANY;
    oc_lstm_variant v = OC_LSTM_TWIN;
    if (wish >= 0) {
        v = (oc_lstm_variant)wish;
        if (!serves(b, s, layer, v))
            return OC_FAIL(OC_ELIMIT,
                           "OUTCRY_CUDA_LSTM=%s does not serve %d hidden, %d inputs: the persistent kernels hold up to "
                           "%d hidden and, with x . W inside (tf32, bf16), %d inputs, in %zu bytes of shared memory; "
                           "this device has %zu",
                           variants[v].name, s->hidden, inputs, OC_SCAN_UNITS_MAX, OC_FUSED_INPUTS_MAX,
                           OC_SHARED_MAX_80, oc_cuda_of(b)->shared_max);
    }
    for (size_t i = 0; wish < 0 && i < sizeof choices / sizeof *choices; i++) {
        const struct choice *c = &choices[i];
        if (c->math != b->info.math || s->hidden > c->hidden_max || batch > c->batch_max || inputs > c->inputs_max ||
            !serves(b, s, layer, c->variant))
            continue;
        v = c->variant;
        break;
    }
    *plan = {v, variants[v].persistent, variants[v].fused, variants[v].wave && training && s->layers > 1};
    return OC_OK;
}
