/* Attention of one new token per row over the row's keys and values, float32, on a CPU.

   Decoding reads every key and value once and computes little on them, so the whole cost is how well memory streams.
   A general kernel packs what it reads for a matrix product that never comes; this one reads straight through.

   Softmax is exact over the row (two passes over the scores, which stay in the cache). No library is needed but libm. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define AHEAD 16 /* keys to prefetch ahead */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t words __attribute__((vector_size(LANES * sizeof(int32_t))));

/* One copy for each kind of processor; the loader picks. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float half __attribute__((vector_size(LANES / 2 * sizeof(float))));
typedef float quarter __attribute__((vector_size(LANES / 4 * sizeof(float))));

/* In pairs of halves: fewer steps than one after the other, and the same order on every processor. */
INLINE float sum_of(lanes x) {
    const union { lanes whole; half parts[2]; } a = {x};
    const union { half whole; quarter parts[2]; } b = {a.parts[0] + a.parts[1]};
    const quarter c = b.parts[0] + b.parts[1];
    return (c[0] + c[2]) + (c[1] + c[3]);
}

/* e^x for x <= 0, to about one unit in the last place: 2^n times a polynomial on [-ln2/2, ln2/2] (coefficients: Cephes expf). */
INLINE lanes exp_of(lanes x) {
    /* Written so that a number that is none stays none: its row has to be found out. */
    const words too_low = x < -87.0f;
    x = (lanes)(((words)x & ~too_low) | ((words)((lanes){0} - 87.0f) & too_low));
    const lanes shifted = x * 1.44269504088896341f + 12582912.0f;
    const lanes n = shifted - 12582912.0f;
    const lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const words bits = (__builtin_convertvector(n, words) + 127) << 23;
    return p * (lanes)bits;
}

/* Scores of `group` queries against `count` keys of `dim` numbers, which lie one behind the other. */
INLINE void score(const float *q, const float *k, const float *mask, float scale, int64_t group, int64_t dim,
                  int64_t count, int64_t pitch, float *scores) {
    for (int64_t t = 0; t < count; t++) {
        const float *key = k + t * dim;
        for (int64_t c = 0; c < dim; c += LANES) __builtin_prefetch(key + AHEAD * dim + c);
        for (int64_t j = 0; j < group; j++) {
            lanes dot = {0};
            for (int64_t c = 0; c < dim; c += LANES)
                dot += *(const lanes *)(q + j * dim + c) * *(const lanes *)(key + c);
            scores[j * pitch + t] = sum_of(dot) * scale + mask[t];
        }
    }
}

/* Softmax in place; the pad behind `count` becomes 0. */
INLINE void softmax(float *scores, int64_t count, int64_t pitch) {
    lanes largest = (lanes){0} - INFINITY;
    for (int64_t t = count; t < pitch; t++) scores[t] = -INFINITY;
    for (int64_t t = 0; t < pitch; t += LANES) {
        const lanes x = *(lanes *)(scores + t);
        const words larger = x > largest;
        largest = (lanes)(((words)x & larger) | ((words)largest & ~larger));
    }
    float most = -INFINITY;
    for (int i = 0; i < LANES; i++) most = largest[i] > most ? largest[i] : most;
    lanes total = {0};
    for (int64_t t = 0; t < pitch; t += LANES) {
        lanes x = *(lanes *)(scores + t) - most;
        const words hidden = x < -1e30f;
        x = exp_of(x);
        x = (lanes)((words)x & ~hidden);
        *(lanes *)(scores + t) = x;
        total += x;
    }
    const float share = 1.0f / sum_of(total);
    for (int64_t t = 0; t < pitch; t += LANES) *(lanes *)(scores + t) *= share;
}

/* The mean of the values, weighted by the scores of each query. */
INLINE void weigh(const float *scores, const float *v, int64_t group, int64_t dim, int64_t count, int64_t pitch,
                  float *out) {
    memset(out, 0, group * dim * sizeof(float));
    for (int64_t t = 0; t < count; t++) {
        const float *value = v + t * dim;
        for (int64_t c = 0; c < dim; c += LANES) __builtin_prefetch(value + AHEAD * dim + c);
        for (int64_t j = 0; j < group; j++) {
            const float weight = scores[j * pitch + t];
            for (int64_t c = 0; c < dim; c += LANES)
                *(lanes *)(out + j * dim + c) += weight * *(const lanes *)(value + c);
        }
    }
}

/* q, out: [rows, heads, group, dim]. k, v: keys of a row and head lie one behind the other; strides are in numbers.
   mask: [rows, count], added to the scores. Heads [first, last) of all rows * heads are computed. Returns 0, or 1
   where memory for the scores is missing. */
CLONES int decode_attention(const float *q, const float *k, const float *v, const float *mask, float *out, float scale,
                            int64_t heads, int64_t group, int64_t dim, int64_t count, int64_t k_row, int64_t k_head,
                            int64_t v_row, int64_t v_head, int64_t mask_row, int64_t first, int64_t last) {
    const int64_t pitch = (count + LANES - 1) / LANES * LANES;
    float *scores = malloc(group * pitch * sizeof(float));
    if (scores == NULL) return 1;
    for (int64_t i = first; i < last; i++) {
        const int64_t row = i / heads, head = i % heads;
        const float *here = q + i * group * dim;
        const float *keys = k + row * k_row + head * k_head;
        const float *values = v + row * v_row + head * v_head;
        /* A known width lets the compiler keep a key in registers. */
        if (dim == 64)
            score(here, keys, mask + row * mask_row, scale, group, 64, count, pitch, scores);
        else if (dim == 128)
            score(here, keys, mask + row * mask_row, scale, group, 128, count, pitch, scores);
        else
            score(here, keys, mask + row * mask_row, scale, group, dim, count, pitch, scores);
        for (int64_t j = 0; j < group; j++) softmax(scores + j * pitch, count, pitch);
        if (dim == 64)
            weigh(scores, values, group, 64, count, pitch, out + i * group * dim);
        else if (dim == 128)
            weigh(scores, values, group, 128, count, pitch, out + i * group * dim);
        else
            weigh(scores, values, group, dim, count, pitch, out + i * group * dim);
    }
    free(scores);
    return 0;
}
