/* mathf.h - exp, log, tanh and the logistic function with the same bits on every machine: only IEEE sums,
 * products, quotients and fused multiply-adds, no libm. The vector forms of kernels/cpu use the same steps and give the
 * same bits. Error bounds, measured over every 61st float (tests/base/test_mathf.c): beside each. NaN in, NaN out. */
#ifndef OC_BASE_MATHF_H
#define OC_BASE_MATHF_H

float oc_expf(float x);            /* <= 2 ulp; 0 below -104, +inf above 88.73; denormal results allowed */
float oc_logf(float x);            /* <= 2 ulp; -inf at 0, NaN below */
float oc_tanhf(float x);           /* <= 6 ulp, never over 1; a rational, half the work of two exps; odd, -0 stays */
float oc_sigmoidf(float x);        /* 1 / (1 + exp(-x)), <= 4 ulp */
double oc_expd(double x);          /* <= 2 ulp */
double oc_logd(double x);          /* <= 2 ulp */

#endif
