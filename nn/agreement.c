/* agreement.c - see the header. */
#include "nn/agreement.h"

#include <math.h>

#include "base/memory.h"
#include "base/random.h"
#include "nn/model.h"

enum { PIECE = 8, ANSWERS_MAX = PIECE * OC_HORIZONS_MAX * OC_CLASSES, SEED = 1 };

typedef struct side {
    oc_model *models[OC_ENSEMBLE_MAX];
    float answers[ANSWERS_MAX];
} side;

/* Of mean 0 and variance 1, within +-3. */
static double deviate(uint32_t key, uint64_t i)
{
    double sum = 0;
    for (uint64_t n = 0; n < 3; n++) sum += oc_random_uniform(key, 3 * i + n);
    return 2 * sum - 3;
}

static void window_draw(const oc_bundle *b, int window, float *rows)
{
    const size_t inputs = (size_t)b->shape.inputs, steps = (size_t)b->shape.steps;
    const double keep = window % 2 ? 0.95 : 0, fresh = sqrt(1 - keep * keep);
    const uint32_t key = oc_random_key(SEED, OC_RANDOM_TEST, (uint64_t)window, 0);
    for (size_t f = 0; f < inputs; f++) {
        double z = 0;
        for (size_t t = 0; t < steps; t++) {
            const double e = deviate(key, t * inputs + f);
            z = t == 0 ? e : keep * z + fresh * e;
            rows[t * inputs + f] = (float)(b->mean[f] + b->scale[f] * z);
        }
    }
}

static OC_MUST side_open(side *s, const oc_ensemble *e, const oc_backend_config *config)
{
    for (int i = 0; i < e->count; i++) OC_TRY(oc_model_open(&s->models[i], e->members[i], config, PIECE));
    return OC_OK;
}

static void side_close(side *s)
{
    for (int i = 0; i < OC_ENSEMBLE_MAX; i++) oc_model_close(s->models[i]);
}

static OC_MUST side_answer(side *s, const oc_ensemble *e, const float *rows, size_t n)
{
    float more[ANSWERS_MAX];
    for (int i = 0; i < e->count; i++) {
        OC_TRY(oc_model_predict(s->models[i], rows, PIECE, i == 0 ? s->answers : more, ANSWERS_MAX));
        oc_ensemble_add(e, i, more, s->answers, n);
    }
    return OC_OK;
}

static int top(const float *p)
{
    int best = 0;
    for (int c = 1; c < OC_CLASSES; c++) best = p[c] > p[best] ? c : best;
    return best;
}

static OC_MUST sides_compare(side *sides, const oc_ensemble *e, float *rows, oc_agreement *out)
{
    const oc_model_shape *shape = &e->members[0]->shape;
    const size_t window = (size_t)shape->steps * (size_t)shape->inputs;
    const size_t answers = (size_t)shape->horizons * PIECE, n = answers * OC_CLASSES;
    size_t turned = 0;
    *out = (oc_agreement){0};
    for (int first = 0; first < OC_AGREEMENT_WINDOWS; first += PIECE) {
        for (int i = 0; i < PIECE; i++) window_draw(e->members[0], first + i, rows + (size_t)i * window);
        for (int i = 0; i < 2; i++) OC_TRY(side_answer(&sides[i], e, rows, n));
        const float *a = sides[0].answers, *b = sides[1].answers;
        for (size_t i = 0; i < n; i++) {
            const double difference = fabs((double)a[i] - (double)b[i]);
            if (!(difference <= out->difference)) out->difference = difference; /* a NaN too, and then it stays */
        }
        for (size_t i = 0; i < answers; i++) turned += top(a + i * OC_CLASSES) != top(b + i * OC_CLASSES);
    }
    out->decisions = (double)turned / ((double)OC_AGREEMENT_WINDOWS * shape->horizons);
    return OC_OK;
}

oc_status oc_agreement_measure(const oc_ensemble *e, const oc_backend_config *config, oc_agreement *out)
{
    const oc_backend_config exact = {.kind = OC_BACKEND_CPU};
    const oc_model_shape *shape = &e->members[0]->shape;
    side *sides = NULL;
    float *rows = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&sides, 2, sizeof *sides, "two sides of a comparison"));
    OC_TRY_GOTO(status, done,
                oc_memory_new_array(&rows, (size_t)PIECE * (size_t)shape->steps * (size_t)shape->inputs, sizeof *rows,
                                    "windows of a comparison"));
    OC_TRY_GOTO(status, done, side_open(&sides[0], e, &exact));
    OC_TRY_GOTO(status, done, side_open(&sides[1], e, config));
    status = sides_compare(sides, e, rows, out);
done:
    for (int i = 0; sides && i < 2; i++) side_close(&sides[i]);
    oc_memory_free(sides);
    oc_memory_free(rows);
    return status;
}
