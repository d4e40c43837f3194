/* logistic.c - multinomial logistic regression by L-BFGS with a backtracking line search [Nocedal06 alg. 7.4, 3.1].
 * The mean loss plus l2/2 |w|^2 (intercepts free) is strictly convex, so the optimum is the one answer. */
#include "evaluate/baselines.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

enum { MEMORY = 10, ITERATIONS_MAX = 500, STEPS_MAX = 40 };
static const double GRADIENT_SHARE = 1e-6, SUFFICIENT = 1e-4;

typedef struct problem {
    const double *x;
    const int8_t *class_;
    size_t count, width, size; /* size = 3 (width + 1) */
    double l2;
} problem;

static void softmax3(const double *weights, const double *x, size_t width, double p[3])
{
    double top = -(double)INFINITY, sum = 0;
    for (size_t k = 0; k < 3; k++) {
        const double *w = weights + k * (width + 1);
        p[k] = w[width];
        for (size_t f = 0; f < width; f++) p[k] += w[f] * x[f];
        top = p[k] > top ? p[k] : top;
    }
    for (size_t k = 0; k < 3; k++) sum += p[k] = exp(p[k] - top);
    for (size_t k = 0; k < 3; k++) p[k] /= sum;
}

/* Loss and its gradient, in the order of the samples. */
static double loss_at(const problem *q, const double *weights, double *gradient)
{
    double loss = 0;
    memset(gradient, 0, q->size * sizeof *gradient);
    for (size_t i = 0; i < q->count; i++) {
        const double *x = q->x + i * q->width;
        double p[3];
        softmax3(weights, x, q->width, p);
        loss -= log(p[q->class_[i]] > 1e-300 ? p[q->class_[i]] : 1e-300);
        for (size_t k = 0; k < 3; k++) {
            double error = p[k] - ((int)k == q->class_[i] ? 1.0 : 0.0), *g = gradient + k * (q->width + 1);
            for (size_t f = 0; f < q->width; f++) g[f] += error * x[f];
            g[q->width] += error;
        }
    }
    double penalty = 0, n = (double)q->count;
    for (size_t j = 0; j < q->size; j++) {
        bool intercept = j % (q->width + 1) == q->width;
        gradient[j] = gradient[j] / n + (intercept ? 0 : q->l2 * weights[j]);
        penalty += intercept ? 0 : weights[j] * weights[j];
    }
    return loss / n + q->l2 / 2 * penalty;
}

static double dot(const double *a, const double *b, size_t size)
{
    double sum = 0;
    for (size_t j = 0; j < size; j++) sum += a[j] * b[j];
    return sum;
}

typedef struct lbfgs {
    double *gradient, *direction, *next, *next_gradient, *s[MEMORY], *y[MEMORY], rho[MEMORY];
    size_t kept; /* pairs seen; slot = index % MEMORY */
} lbfgs;

static oc_status lbfgs_take(lbfgs *l, oc_arena *arena, size_t size)
{
    double **one[] = {&l->gradient, &l->direction, &l->next, &l->next_gradient};
    for (size_t i = 0; i < 4; i++) OC_TRY(oc_arena_take(arena, one[i], size * sizeof(double), "L-BFGS"));
    for (size_t i = 0; i < MEMORY; i++) {
        OC_TRY(oc_arena_take(arena, &l->s[i], size * sizeof(double), "L-BFGS"));
        OC_TRY(oc_arena_take(arena, &l->y[i], size * sizeof(double), "L-BFGS"));
    }
    return OC_OK;
}

/* direction = -H gradient by the two-loop recursion. */
static void lbfgs_direction(lbfgs *l, size_t size)
{
    double alpha[MEMORY];
    size_t pairs = l->kept < MEMORY ? l->kept : MEMORY;
    memcpy(l->direction, l->gradient, size * sizeof(double));
    for (size_t i = 0; i < pairs; i++) {
        size_t at = (l->kept - 1 - i) % MEMORY;
        alpha[i] = l->rho[at] * dot(l->s[at], l->direction, size);
        for (size_t j = 0; j < size; j++) l->direction[j] -= alpha[i] * l->y[at][j];
    }
    if (pairs > 0) {
        size_t last = (l->kept - 1) % MEMORY;
        double scale = 1 / (l->rho[last] * dot(l->y[last], l->y[last], size));
        for (size_t j = 0; j < size; j++) l->direction[j] *= scale;
    }
    for (size_t i = pairs; i-- > 0;) {
        size_t at = (l->kept - 1 - i) % MEMORY;
        double beta = l->rho[at] * dot(l->y[at], l->direction, size);
        for (size_t j = 0; j < size; j++) l->direction[j] += (alpha[i] - beta) * l->s[at][j];
    }
    for (size_t j = 0; j < size; j++) l->direction[j] = -l->direction[j];
}

/* Moves to the first step that decreases enough; false where rounding leaves none. */
static bool line_search(const problem *q, lbfgs *l, double *weights, double *loss)
{
    double slope = dot(l->gradient, l->direction, q->size), step = 1;
    if (!(slope < 0)) return false;
    for (int i = 0; i < STEPS_MAX; i++, step /= 2) {
        for (size_t j = 0; j < q->size; j++) l->next[j] = weights[j] + step * l->direction[j];
        double value = loss_at(q, l->next, l->next_gradient);
        if (!(value <= *loss + SUFFICIENT * step * slope)) continue;
        size_t at = l->kept % MEMORY;
        for (size_t j = 0; j < q->size; j++) {
            l->s[at][j] = l->next[j] - weights[j];
            l->y[at][j] = l->next_gradient[j] - l->gradient[j];
        }
        double curvature = dot(l->s[at], l->y[at], q->size);
        if (curvature > 0) {
            l->rho[at] = 1 / curvature;
            l->kept++;
        }
        memcpy(weights, l->next, q->size * sizeof(double));
        memcpy(l->gradient, l->next_gradient, q->size * sizeof(double));
        *loss = value;
        return true;
    }
    return false;
}

oc_status oc_logistic_fit(const double *x, const int8_t *class_, size_t count, size_t width, double l2, double *weights)
{
    problem q = {x, class_, count, width, 3 * (width + 1), l2};
    lbfgs l = {0};
    oc_arena arena;
    if (count == 0) return OC_FAIL(OC_EDATA, "logistic regression: there is no sample");
    OC_TRY(oc_arena_init(&arena, (4 + 2 * MEMORY) * oc_align_up(q.size * sizeof(double)), "logistic regression"));
    oc_status status = lbfgs_take(&l, &arena, q.size);
    if (status == OC_OK) {
        memset(weights, 0, q.size * sizeof *weights);
        double loss = loss_at(&q, weights, l.gradient), start = sqrt(dot(l.gradient, l.gradient, q.size)), norm = start;
        int i = 0;
        for (; i < ITERATIONS_MAX && norm > GRADIENT_SHARE * start; i++) {
            lbfgs_direction(&l, q.size);
            if (!line_search(&q, &l, weights, &loss)) break; /* at the optimum, as far as f64 can tell */
            norm = sqrt(dot(l.gradient, l.gradient, q.size));
        }
        if (!(norm <= 1e-3 * start || start == 0))
            status = OC_FAIL(OC_ELIMIT, "logistic regression: gradient %g of %g after %d iterations", norm, start, i);
    }
    oc_arena_deinit(&arena);
    return status;
}

void oc_logistic_predict(const double *weights, const double *x, size_t width, float p[3])
{
    double q[3];
    softmax3(weights, x, width, q);
    for (int k = 0; k < 3; k++) p[k] = (float)q[k];
}
