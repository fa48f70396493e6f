/* x W^T + b in float32 on weights in panels: 64 outputs side by side, input after input.

   A panel is read once, straight through, and stays in the core's own cache while blocks of rows pass over it. For a few
   rows, as in decoding, the cost is how well the weights stream; for many, the registers are full of sums.

   Every number is one sum over the inputs in their order, however many rows there are: a row says the same alone and in
   any company, to the last bit. */

#include "lanes.h"

#define ROWS 6   /* of one block: six times four vectors are most of the registers */
#define PANEL (WIDE * LANES)
#define AHEAD 24 /* inputs to prefetch ahead */
#define CACHE (384 << 10)

enum { PLAIN, SILU, GELU_TANH, RELU };

/* 1 / (1 + e^-x), written so that nothing overflows. */
INLINE lanes sigmoid_of(lanes x) {
    const words negative = x < 0;
    const lanes minus = (lanes)(((words)x & negative) | ((words)(-x) & ~negative));
    const lanes e = exp_of(minus), whole = 1.0f / (1.0f + e);
    return (lanes)(((words)(e * whole) & negative) | ((words)whole & ~negative));
}

INLINE lanes activate(lanes x, int kind) {
    if (kind == SILU) return x * sigmoid_of(x);
    /* tanh(u) = 2 sigmoid(2u) - 1, with u = sqrt(2/pi) (x + 0.044715 x^3). */
    if (kind == GELU_TANH) return x * sigmoid_of(1.5957691216057308f * (x + 0.044715f * x * x * x));
    const words below = x < 0;
    return (lanes)((words)x & ~below);
}

/* One block of rows against one panel. */
INLINE void multiply(const float *x, const float *panel, const float *bias, float *out, int64_t inputs, int64_t pitch,
                     int64_t kept, int rows, int activation, int is_first) {
    lanes c[ROWS][WIDE];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int w = 0; w < WIDE; w++) c[i][w] = *(const lanes *)(bias + w * LANES);
    for (int64_t t = 0; t < inputs; t++) {
        const lanes *row = (const lanes *)(panel + t * PANEL);
        if (is_first) {
            const float *next = panel + (t + AHEAD) * PANEL;
#pragma GCC unroll 4
            for (int w = 0; w < WIDE; w++) __builtin_prefetch(next + w * LANES);
        }
        const lanes b0 = row[0], b1 = row[1], b2 = row[2], b3 = row[3];
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const float a = x[i * inputs + t];
            c[i][0] += a * b0;
            c[i][1] += a * b1;
            c[i][2] += a * b2;
            c[i][3] += a * b3;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        if (activation != PLAIN)
#pragma GCC unroll 4
            for (int w = 0; w < WIDE; w++) c[i][w] = activate(c[i][w], activation);
        memcpy(out + i * pitch, c[i], kept * sizeof(float));
    }
}

/* Some rows against some panels. */
INLINE void pass(const float *x, const float *panels, const float *bias, float *out, int64_t rows, int64_t inputs,
                 int64_t outputs, int activation, int64_t first, int64_t last) {
    const float none[PANEL] = {0};
    for (int64_t p = first; p < last; p++) {
        const float *panel = panels + p * inputs * PANEL, *add = bias ? bias + p * PANEL : none;
        const int64_t kept = outputs - p * PANEL < PANEL ? outputs - p * PANEL : PANEL;
        float *target = out + p * PANEL;
        int64_t row = 0;
        for (; row + ROWS <= rows; row += ROWS)
            multiply(x + row * inputs, panel, add, target + row * outputs, inputs, outputs, kept, ROWS, activation,
                     row == 0);
        const float *rest = x + row * inputs;
        const int is_first = row == 0;
        target += row * outputs;
        switch (rows - row) {
            case 5: multiply(rest, panel, add, target, inputs, outputs, kept, 5, activation, is_first); break;
            case 4: multiply(rest, panel, add, target, inputs, outputs, kept, 4, activation, is_first); break;
            case 3: multiply(rest, panel, add, target, inputs, outputs, kept, 3, activation, is_first); break;
            case 2: multiply(rest, panel, add, target, inputs, outputs, kept, 2, activation, is_first); break;
            case 1: multiply(rest, panel, add, target, inputs, outputs, kept, 1, activation, is_first); break;
        }
    }
}

/* x: [rows, inputs]. panels: [(outputs + 63) / 64, inputs, 64]. bias: as long as the panels are wide, or NULL.
   out: [rows, outputs]. Panels [first, last) are computed. */
CLONES int panel_linear(const float *x, const float *panels, const float *bias, float *out, int64_t rows,
                        int64_t inputs, int64_t outputs, int64_t activation, int64_t first, int64_t last) {
    /* As many rows at a time as stay in the core's cache beside a panel. */
    const int64_t fitting = CACHE / (inputs * (int64_t)sizeof(float)) / ROWS * ROWS;
    const int64_t tile = fitting < 8 * ROWS ? 8 * ROWS : fitting;
    for (int64_t row = 0; row < rows; row += tile)
        pass(x + row * inputs, panels, bias, out + row * outputs, rows - row < tile ? rows - row : tile, inputs,
             outputs, (int)activation, first, last);
    return 0;
}
