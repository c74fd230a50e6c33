/* The arithmetic coder of ITU-T H.264, 9.3, as far as P_Skip and I_PCM need it, and of H.265, whose
 * engine is the same. */
#include "driver.h"

/* Table 9-44: rangeTabLPS. */
static const uint8_t lps_range[64][4] = {
    {128, 176, 208, 240}, {128, 167, 197, 227}, {128, 158, 187, 216}, {123, 150, 178, 205}, {116, 142, 169, 195},
    {111, 135, 160, 185}, {105, 128, 152, 175}, {100, 122, 144, 166}, {95, 116, 137, 158}, {90, 110, 130, 150},
    {85, 104, 123, 142}, {81, 99, 117, 135}, {77, 94, 111, 128}, {73, 89, 105, 122}, {69, 85, 100, 116},
    {66, 80, 95, 110}, {62, 76, 90, 104}, {59, 72, 86, 99}, {56, 69, 81, 94}, {53, 65, 77, 89}, {51, 62, 73, 85},
    {48, 59, 69, 80}, {46, 56, 66, 76}, {43, 53, 63, 72}, {41, 50, 59, 69}, {39, 48, 56, 65}, {37, 45, 54, 62},
    {35, 43, 51, 59}, {33, 41, 48, 56}, {32, 39, 46, 53}, {30, 37, 43, 50}, {29, 35, 41, 48}, {27, 33, 39, 45},
    {26, 31, 37, 43}, {24, 30, 35, 41}, {23, 28, 33, 39}, {22, 27, 32, 37}, {21, 26, 30, 35}, {20, 24, 29, 33},
    {19, 23, 27, 31}, {18, 22, 26, 30}, {17, 21, 25, 28}, {16, 20, 23, 27}, {15, 19, 22, 25}, {14, 18, 21, 24},
    {14, 17, 20, 23}, {13, 16, 19, 22}, {12, 15, 18, 21}, {12, 14, 17, 20}, {11, 14, 16, 19}, {11, 13, 15, 18},
    {10, 12, 15, 17}, {10, 12, 14, 16}, {9, 11, 13, 15}, {9, 11, 12, 14}, {8, 10, 12, 14}, {8, 9, 11, 13},
    {7, 9, 11, 12}, {7, 9, 10, 12}, {7, 8, 10, 11}, {6, 8, 9, 11}, {6, 7, 9, 10}, {6, 7, 8, 9}, {2, 2, 2, 2},
};
/* Table 9-45: transIdxLPS. */
static const uint8_t after_lps[64] = {
    0,  0,  1,  2,  2,  4,  4,  5,  6,  7,  8,  9,  9,  11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22, 22, 23, 24,
    24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37, 38, 38, 63,
};
/* Tables 9-12 and 9-13: m and n of contexts 3 to 5, and of 11 to 17 for each cabac_init_idc. */
static const int8_t intra_init[3][2] = {{20, -15}, {2, 54}, {3, 74}};
static const int8_t inter_init[3][7][2] = {
    {{23, 33}, {23, 2}, {21, 0}, {1, 9}, {0, 49}, {-37, 118}, {5, 57}},
    {{22, 25}, {34, 0}, {16, 0}, {-2, 9}, {4, 41}, {-29, 118}, {2, 65}},
    {{29, 16}, {25, 0}, {14, 0}, {-10, 51}, {-3, 62}, {-27, 99}, {26, 16}},
};

static void init(struct cabac *c, unsigned context, const int8_t mn[2], int qp) {
    int state = ((mn[0] * qp) >> 4) + mn[1];
    state = state < 1 ? 1 : state > 126 ? 126 : state;
    c->mps[context] = state > 63;
    c->state[context] = (uint8_t)(state > 63 ? state - 64 : 63 - state);
}

void cabac_context(struct cabac *c, unsigned context, unsigned value, int qp) {
    const int8_t mn[2] = {(int8_t)((int)(value >> 4) * 5 - 45), (int8_t)((int)(value & 15) * 8 - 16)};
    init(c, context, mn, qp < 0 ? 0 : qp > 51 ? 51 : qp);
}

void cabac_restart(struct cabac *c) {
    c->low = c->outstanding = 0;
    c->range = 510;
    c->first = true;
}

void cabac_begin(struct cabac *c, struct bits *out, bool intra, unsigned init_idc, int qp) {
    c->out = out;
    qp = qp < 0 ? 0 : qp > 51 ? 51 : qp;
    for (unsigned i = 0; i < 3; i++) init(c, 3 + i, intra_init[i], qp);
    if (!intra)
        for (unsigned i = 0; i < 7; i++) init(c, 11 + i, inter_init[init_idc % 3][i], qp);
    cabac_restart(c);
}

static void put(struct cabac *c, unsigned bit) {
    if (c->first) c->first = false;
    else bits_put(c->out, 1, bit);
    for (; c->outstanding; c->outstanding--) bits_put(c->out, 1, !bit);
}

static void renormalise(struct cabac *c) {
    for (; c->range < 256; c->range <<= 1, c->low <<= 1) {
        if (c->low < 256) {
            put(c, 0);
        } else if (c->low >= 512) {
            c->low -= 512;
            put(c, 1);
        } else {
            c->low -= 256;
            c->outstanding++;
        }
    }
}

void cabac_bin(struct cabac *c, unsigned context, unsigned bin) {
    uint8_t *state = &c->state[context];
    uint32_t lps = lps_range[*state][c->range >> 6 & 3];
    c->range -= lps;
    if (bin != c->mps[context]) {
        c->low += c->range;
        c->range = lps;
        if (*state == 0) c->mps[context] ^= 1;
        *state = after_lps[*state];
    } else if (*state < 62) {
        ++*state;
    }
    renormalise(c);
}

/* With 1, all that is pending is written, the last bit being the stop bit of a slice. */
void cabac_terminate(struct cabac *c, unsigned bin) {
    c->range -= 2;
    if (!bin) {
        renormalise(c);
        return;
    }
    c->low += c->range;
    c->range = 2;
    renormalise(c);
    put(c, c->low >> 9 & 1);
    bits_put(c->out, 2, (c->low >> 7 & 3) | 1);
}

void cabac_bypass(struct cabac *c, unsigned bin) {
    c->low <<= 1;
    if (bin) c->low += c->range;
    if (c->low >= 1024) {
        c->low -= 1024;
        put(c, 1);
    } else if (c->low < 512) {
        put(c, 0);
    } else {
        c->low -= 512;
        c->outstanding++;
    }
}
