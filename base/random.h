/* random.h - counter-based random numbers: a value is a pure function of (key, counter), so nothing depends on
 * scheduling, order or rank count. Philox2x32-10 [Salmon11]: 32-bit multiplications only, the same on any device. */
#ifndef OC_BASE_RANDOM_H
#define OC_BASE_RANDOM_H

#include <stdint.h>

/* What a stream of numbers is for; one name a use, so that no two uses share numbers. */
typedef enum {
    OC_RANDOM_WEIGHTS = 1,
    OC_RANDOM_SHUFFLE,
    OC_RANDOM_DROPOUT,
    OC_RANDOM_BOOTSTRAP,
    OC_RANDOM_MARKET,
    OC_RANDOM_VERIFY,
    OC_RANDOM_TEST,
    OC_RANDOM_VENUE,
    OC_RANDOM_DELAY
} oc_random_use;

/* Two 32-bit words for one 64-bit counter. */
static inline uint64_t oc_random_philox(uint32_t key, uint64_t counter)
{
    uint32_t low = (uint32_t)counter, high = (uint32_t)(counter >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t product = (uint64_t)0xD256D193u * low;
        low = (uint32_t)(product >> 32) ^ key ^ high;
        high = (uint32_t)product;
        key += 0x9E3779B9u;
    }
    return (uint64_t)high << 32 | low;
}

/* Folds seed, use and two further numbers (step, tensor, …) into a key; SplitMix64 finaliser [Steele14]. */
static inline uint32_t oc_random_key(uint64_t seed, oc_random_use use, uint64_t a, uint64_t b)
{
    uint64_t state = seed;
    const uint64_t parts[3] = {(uint64_t)use, a, b};
    for (int i = 0; i < 3; i++) {
        state += 0x9E3779B97F4A7C15u + parts[i] * 0xD1342543DE82EF95u;
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9u;
        state = (state ^ state >> 27) * 0x94D049BB133111EBu;
        state ^= state >> 31;
    }
    return (uint32_t)(state >> 32) ^ (uint32_t)state;
}

/* Uniform in [0, 1), 53 bits. */
static inline double oc_random_uniform(uint32_t key, uint64_t counter)
{
    return (double)(oc_random_philox(key, counter) >> 11) * 0x1p-53;
}

/* Uniform in [0, bound), bound > 0; bias below bound / 2^64. */
static inline uint64_t oc_random_below(uint32_t key, uint64_t counter, uint64_t bound)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)oc_random_philox(key, counter) * bound) >> 64);
}

#endif
