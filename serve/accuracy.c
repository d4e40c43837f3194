/* accuracy.c - see the header. */
#include "serve/accuracy.h"

#include "base/clock.h"
#include "base/log.h"

static OC_MUST backend_check(const oc_backend_config *config)
{
    oc_backend_config probe = *config;
    oc_backend *b;
    if (config->kind != OC_BACKEND_CPU)
        return OC_FAIL(OC_ECONFIG, "serve.dtype is bf16, which is there for the CPU alone: set backend to cpu");
    probe.arena_bytes = 0;
    OC_TRY(oc_backend_open(&b, &probe));
    const oc_isa isa = oc_backend_describe(b)->isa;
    oc_backend_close(b);
    if (isa != OC_ISA_AVX512_BF16)
        return OC_FAIL(OC_ECONFIG,
                       "serve.dtype is bf16, but what computes here is %s, not avx512_bf16: bf16 would be right and "
                       "slower than f32, so set serve.dtype to f32",
                       oc_isa_name(isa));
    return OC_OK;
}

oc_status oc_accuracy_pass(oc_version *v, const oc_backend_config *backend, const oc_accuracy *accuracy)
{
    const int64_t start = oc_clock_monotonic_ns();
    if (backend->math != OC_MATH_BF16) return OC_OK;
    OC_TRY(backend_check(backend));
    OC_TRY(oc_agreement_measure(v->ensemble, backend, &v->agreement));
    const oc_agreement *found = &v->agreement;
    if (!(found->difference <= accuracy->difference_max && found->decisions <= accuracy->decisions_max))
        return OC_FAIL(OC_EDATA,
                       "model %s version %s: in bf16 its probabilities differ from f32's by up to %.3g "
                       "(serve.bf16_difference_max %g), its decisions in %.3g of %d windows "
                       "(serve.bf16_decisions_max %g): set serve.dtype to f32, or the bounds to what may be lost",
                       v->name, v->text, found->difference, accuracy->difference_max, found->decisions,
                       OC_AGREEMENT_WINDOWS, accuracy->decisions_max);
    oc_log(OC_LOG_INFO,
           "serve: model %s version %s in bf16: probabilities within %.3g of f32's (%g allowed), %.3g of decisions "
           "differ (%g allowed) in %d windows; %.0f ms",
           v->name, v->text, found->difference, accuracy->difference_max, found->decisions, accuracy->decisions_max,
           OC_AGREEMENT_WINDOWS, 1e-6 * (double)(oc_clock_monotonic_ns() - start));
    return OC_OK;
}
