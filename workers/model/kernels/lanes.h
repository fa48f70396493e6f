/* What the kernels share: vectors of sixteen numbers, in the compiler's own notation, so that one source serves every
   processor; their sum, and e^x of them. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define WIDE 4 /* vectors side by side */

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
