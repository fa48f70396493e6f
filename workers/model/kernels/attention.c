/* Attention on a CPU in float32: one new token per row (decoding), and whole prompts (prefill).

   Decoding reads every key and value once and computes little on them: the cost is how well memory streams. A general
   kernel packs what it reads for a matrix product that never comes; this one reads straight through.

   A prompt's attention is two matrix products per head, of which general libraries are slow on some processors; here a
   block of queries stays in registers against transposed keys, and against the values as they lie.

   Softmax is exact over the row. Nothing but libc is needed. */

#include "lanes.h"

#define AHEAD 16 /* keys to prefetch ahead */

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
    if (most == -INFINITY) most = 0;
    lanes total = {0};
    for (int64_t t = 0; t < pitch; t += LANES) {
        lanes x = *(lanes *)(scores + t) - most;
        const words hidden = x < -1e30f;
        x = exp_of(x);
        x = (lanes)((words)x & ~hidden);
        *(lanes *)(scores + t) = x;
        total += x;
    }
    /* A query that may see nothing gets nothing. */
    const float sum = sum_of(total), share = sum == 0 ? 0 : 1.0f / sum;
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

#define QUERIES 6 /* of one block: six times four vectors are most of the registers */

/* c[i][0..64) = sum over t of a[i][t] * b[t][0..64), for QUERIES rows of a. */
INLINE void multiply(const float *const a[QUERIES], const float *b, int64_t b_pitch, int64_t count, lanes c[QUERIES][WIDE]) {
    for (int i = 0; i < QUERIES; i++)
        for (int w = 0; w < WIDE; w++) c[i][w] = (lanes){0};
    for (int64_t t = 0; t < count; t++) {
        const lanes *row = (const lanes *)(b + t * b_pitch);
        const lanes b0 = row[0], b1 = row[1], b2 = row[2], b3 = row[3];
#pragma GCC unroll 6
        for (int i = 0; i < QUERIES; i++) {
            const float x = a[i][t];
            c[i][0] += x * b0;
            c[i][1] += x * b1;
            c[i][2] += x * b2;
            c[i][3] += x * b3;
        }
    }
}

/* Add a mask row: kind 0 none, 1 numbers, 2 booleans that say what may be seen. */
INLINE void hide(float *scores, int64_t count, const void *mask, int64_t offset, int kind) {
    if (kind == 1)
        for (int64_t t = 0; t < count; t++) scores[t] += ((const float *)mask)[offset + t];
    if (kind == 2)
        for (int64_t t = 0; t < count; t++)
            scores[t] = ((const uint8_t *)mask)[offset + t] ? scores[t] : -INFINITY;
}

/* q: [rows, heads * group, queries, dim]; k, v: [rows, heads, keys, dim]; out: [rows, queries, heads * group, dim], all
   of it one behind the other. mask: [rows, queries, keys] by its strides. causal: a query sees no later key. Heads
   [first, last) of all rows * heads are computed. Returns 0, or 1 where memory is missing. */
CLONES int prefill_attention(const float *q, const float *k, const float *v, const void *mask, float *out, float scale,
                             int64_t heads, int64_t group, int64_t dim, int64_t queries, int64_t keys, int64_t q_row,
                             int64_t q_head, int64_t q_token, int64_t k_row, int64_t k_head, int64_t k_token,
                             int64_t v_row, int64_t v_head, int64_t v_token, int64_t mask_row, int64_t mask_query,
                             int64_t mask_kind, int64_t causal, int64_t first, int64_t last) {
    const int64_t block = WIDE * LANES, pitch = (keys + block - 1) / block * block;
    /* Values of an odd width are copied, so that a block of vectors never reads behind them. */
    const int64_t width = (dim + block - 1) / block * block, num_copied = width == dim ? 0 : keys * width;
    const int64_t size_of_all = (dim + QUERIES) * pitch + QUERIES * width + num_copied;
    float *scratch = aligned_alloc(64, (size_of_all * sizeof(float) + 63) / 64 * 64);
    if (scratch == NULL) return 1;
    float *turned = scratch, *scores = turned + dim * pitch, *asked = scores + QUERIES * pitch;
    float *copied = asked + QUERIES * width;
    const int64_t value_pitch = num_copied ? width : v_token;
    memset(copied, 0, num_copied * sizeof(float));
    for (int64_t unit = first; unit < last; unit++) {
        const int64_t row = unit / heads, head = unit % heads;
        const float *keys_here = k + row * k_row + head * k_head, *values = v + row * v_row + head * v_head;
        for (int64_t t = 0; t < (num_copied ? keys : 0); t++)
            memcpy(copied + t * width, values + t * v_token, dim * sizeof(float));
        if (num_copied) values = copied;
        for (int64_t t = 0; t < keys; t++)
            for (int64_t c = 0; c < dim; c++) turned[c * pitch + t] = keys_here[t * k_token + c];
        for (int64_t c = 0; c < dim; c++) memset(turned + c * pitch + keys, 0, (pitch - keys) * sizeof(float));
        for (int64_t member = 0; member < group * queries; member += QUERIES) {
            const float *query[QUERIES], *weights[QUERIES];
            float *answer[QUERIES];
            int64_t visible = 0, seen[QUERIES];
            const int64_t size = group * queries - member < QUERIES ? group * queries - member : QUERIES;
            for (int64_t i = 0; i < QUERIES; i++) {
                /* The last block is filled up with its first query. */
                const int64_t number = member + (i < size ? i : 0), token = number % queries;
                const int64_t own = head * group + number / queries;
                const float *source = q + row * q_row + own * q_head + token * q_token;
                for (int64_t c = 0; c < dim; c++) asked[i * dim + c] = source[c] * scale;
                query[i] = asked + i * dim;
                weights[i] = scores + i * pitch;
                answer[i] = out + ((row * queries + token) * heads * group + own) * dim;
                seen[i] = causal ? token + 1 : keys;
                visible = seen[i] > visible ? seen[i] : visible;
            }
            lanes c[QUERIES][WIDE];
            for (int64_t t = 0; t < visible; t += block) {
                multiply(query, turned + t, pitch, dim, c);
                for (int i = 0; i < QUERIES; i++)
                    for (int w = 0; w < WIDE; w++) *(lanes *)(scores + i * pitch + t + w * LANES) = c[i][w];
            }
            for (int64_t i = 0; i < size; i++) {
                const int64_t token = (member + i) % queries;
                hide(scores + i * pitch, seen[i], mask, row * mask_row + token * mask_query, mask_kind);
                softmax(scores + i * pitch, seen[i], (visible + LANES - 1) / LANES * LANES);
            }
            for (int64_t from = 0; from < dim; from += block) {
                multiply(weights, values + from, value_pitch, visible, c);
                const int64_t kept = dim - from < block ? dim - from : block;
                for (int64_t i = 0; i < size; i++) memcpy(answer[i] + from, c[i], kept * sizeof(float));
            }
        }
    }
    free(scratch);
    return 0;
}
