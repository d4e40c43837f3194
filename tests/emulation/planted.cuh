/* planted.cuh - kernels with one fault each, and the good ones beside them: what the emulation must find. */
#ifndef OC_TESTS_EMULATION_PLANTED_CUH
#define OC_TESTS_EMULATION_PLANTED_CUH

#ifdef __cplusplus
extern "C" {
#endif

enum { PLANTED_GOOD, PLANTED_WRONG, PLANTED_NO_ROOM };
typedef struct planted_case {
    const char *name;
    int (*run)(void);           /* PLANTED_*; a finding ends the process */
    const char *word;           /* in the finding; NULL: a good kernel */
    const char *word_sanitizer; /* the same under the address sanitizer; "wrong": the result shows it, "": any death */
} planted_case;
extern const planted_case planted_cases[];
extern const int planted_count;

#ifdef __cplusplus
}
#endif
#endif
