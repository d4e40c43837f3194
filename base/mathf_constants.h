/* mathf_constants.h - the numbers of mathf.c, shared with the vector forms of kernels/cpu, which do the same steps in
 * the same order (written out at the head of mathf.c) and so give the same bits. From
 * tests/base/make_mathf_constants.py. */
#ifndef OC_BASE_MATHF_CONSTANTS_H
#define OC_BASE_MATHF_CONSTANTS_H

/* Adding it rounds a small float to an integer, which then stands in the low bits: 1.5 * 2^23, 1.5 * 2^52. */
#define OC_ROUNDF         0x1.8p23f
#define OC_ROUNDF_191     0x1.80017ep23f        /* + 191: shifted left by 23, the bits are those of 2^(integer + 64) */
#define OC_ROUND          0x1.8p52

/* Beyond these exp is 0 or infinity, which the scaling then yields by itself. */
#define OC_EXPF_MIN       (-0x1.ap6f)           /* -104 */
#define OC_EXPF_MAX       0x1.64p6f             /* 89 */
#define OC_EXP_MIN        (-0x1.75p9)           /* -746 */
#define OC_EXP_MAX        0x1.63p9              /* 710 */
#define OC_TANHF_MAX      0x1.20a3d8p3f         /* 9.02: tanh rounds to 1 from 9.011 on */

#define OC_LOG2EF         0x1.715476p+0f
#define OC_LN2F_HIGH      0x1.62e43p-1f
#define OC_LN2F_LOW       (-0x1.05c61p-29f)
#define OC_EXPF_2         0x1p-1f
#define OC_EXPF_3         0x1.5554dep-3f
#define OC_EXPF_4         0x1.55551ap-5f
#define OC_EXPF_5         0x1.120b62p-7f
#define OC_EXPF_6         0x1.6d10fcp-10f
#define OC_LOGF_0         0x1.555556p-1f
#define OC_LOGF_1         0x1.9999ecp-2f
#define OC_LOGF_2         0x1.245c44p-2f
#define OC_LOGF_3         0x1.ddced8p-3f
#define OC_LOG2E          0x1.71547652b82fep+0
#define OC_LN2_HIGH       0x1.62e42fefa39efp-1
#define OC_LN2_LOW        0x1.abc9e3b39803fp-56
#define OC_EXP_2          0x1.0000000000001p-1
#define OC_EXP_3          0x1.5555555555556p-3
#define OC_EXP_4          0x1.5555555553d68p-5
#define OC_EXP_5          0x1.11111111109b5p-7
#define OC_EXP_6          0x1.6c16c17889ef1p-10
#define OC_EXP_7          0x1.a01a01a7c2efep-13
#define OC_EXP_8          0x1.a019b9149a41cp-16
#define OC_EXP_9          0x1.71de0db2f6b19p-19
#define OC_EXP_10         0x1.28917c89a43a7p-22
#define OC_EXP_11         0x1.af389ecfc4b9cp-26
#define OC_LOG_0          0x1.5555555555555p-1
#define OC_LOG_1          0x1.9999999999a38p-2
#define OC_LOG_2          0x1.2492492476cccp-2
#define OC_LOG_3          0x1.c71c720159177p-3
#define OC_LOG_4          0x1.745cf9048dd95p-3
#define OC_LOG_5          0x1.3b1c355a8f7a2p-3
#define OC_LOG_6          0x1.0fbe95d71602p-3
#define OC_LOG_7          0x1.0c039c49989c6p-3
#define OC_TANHF_P1       0x1.1213d8p-3f
#define OC_TANHF_P2       0x1.ca6b5cp-9f
#define OC_TANHF_P3       0x1.5a366ep-16f
#define OC_TANHF_P4       0x1.cbe1e8p-27f
#define OC_TANHF_Q1       0x1.de5f3ap-2f
#define OC_TANHF_Q2       0x1.a816f4p-6f
#define OC_TANHF_Q3       0x1.58d3a6p-12f
#define OC_TANHF_Q4       0x1.a23cbcp-21f

/* The bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2)). */
#define OC_LOGF_HALF_BITS 0x3f3504f3u
#define OC_LOG_HALF_BITS  0x3fe6a09e667f3bcdull

#endif
