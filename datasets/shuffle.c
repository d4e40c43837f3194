/* shuffle.c - the order of an epoch without a table: a balanced Feistel network over the smallest even number of bits
 * that holds `count` is a permutation of 2^bits values whatever its round function is; walking the cycle until a value
 * falls below count makes it a permutation of [0, count) [Black02]. Fewer than four steps on average: 2^bits < 4 count.
 */
#include <assert.h>

#include "base/random.h"
#include "datasets/folds.h"

enum { ROUNDS = 6 };

uint64_t oc_shuffle(uint64_t seed, uint64_t epoch, uint64_t count, uint64_t position)
{
    assert(position < count && count <= UINT64_C(1) << 62);
    unsigned half = 1;
    while (UINT64_C(1) << (2 * half) < count) half++;
    uint64_t mask = (UINT64_C(1) << half) - 1, value = position;
    uint32_t keys[ROUNDS];
    for (unsigned r = 0; r < ROUNDS; r++) keys[r] = oc_random_key(seed, OC_RANDOM_SHUFFLE, epoch, r);
    do {                                         /* ends: the cycle through `position` comes back to it */
        uint64_t left = value >> half, right = value & mask;
        for (unsigned r = 0; r < ROUNDS; r++) {
            uint64_t next = left ^ (oc_random_philox(keys[r], right) & mask);
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= count);
    return value;
}
