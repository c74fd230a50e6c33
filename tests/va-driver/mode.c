/* How the driver behaves: TRANSOM_VA_MODE, words with commas between them.
 *
 * Whole drivers: d3d12 (own headers, Main and High, no import, no RGB in video processing), intel
 * (EncSliceLP alone, HEVC without P slices), radeonsi (headers as given, which is also what happens without any word). Single
 * habits and faults carry the names of `struct mode`; those that end in -after take =FRAMES. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static bool is(const char *word, size_t length, const char *name) {
    return strlen(name) == length && memcmp(word, name, length) == 0;
}

bool mode_read(struct mode *mode, const char *text) {
    *mode = (struct mode){.fail_after = -1, .hang_after = -1, .garbage_after = -1, .empty_after = -1,
                          .overflow_after = -1, .crash_after = -1};
    const struct { const char *name; bool *flag; } flags[] = {
        {"own-headers", &mode->own_headers}, {"low-power", &mode->low_power}, {"main-high", &mode->main_high},
        {"no-import", &mode->no_import}, {"no-bgrx", &mode->no_bgrx}, {"no-blend", &mode->no_blend}, {"no-vpp", &mode->no_vpp},
        {"no-derive", &mode->no_derive}, {"no-encode", &mode->no_encode}, {"paced", &mode->paced}, {"capped", &mode->capped}, {"idle", &mode->idle},
        {"refresh", &mode->refresh}, {"roi", &mode->roi}, {"drops-sei", &mode->drops_sei},
        {"no-hevc", &mode->no_hevc}, {"no-pcm", &mode->no_pcm}, {"both-lists", &mode->both_lists},
        {"lying-pitch", &mode->lying_pitch}, {"wrong-size", &mode->wrong_size},
    };
    const struct { const char *name; long *frames; } faults[] = {
        {"fail-after", &mode->fail_after}, {"hang-after", &mode->hang_after},
        {"garbage-after", &mode->garbage_after}, {"empty-after", &mode->empty_after},
        {"overflow-after", &mode->overflow_after}, {"crash-after", &mode->crash_after},
    };
    while (text && *text) {
        size_t length = strcspn(text, ",");
        size_t name = strcspn(text, ",=");
        bool known = is(text, length, "radeonsi");
        if (is(text, length, "d3d12")) {
            known = mode->own_headers = mode->main_high = mode->no_import = mode->no_bgrx = mode->no_blend = true;
        } else if (is(text, length, "intel")) {
            known = mode->low_power = mode->both_lists = true;
        }
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            if (is(text, length, flags[i].name)) known = *flags[i].flag = true;
        }
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            if (is(text, name, faults[i].name) && text[name] == '=') {
                *faults[i].frames = atol(text + name + 1);
                known = true;
            }
        }
        if (!known) return false;
        text += length;
        text += *text == ',';
    }
    return true;
}
