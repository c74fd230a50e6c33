/* What the driver can do, by its mode: profiles, entrypoints, attributes, and configurations made of
 * them. */
#include <stdlib.h>

#include "driver.h"

static bool has_profile(const struct driver *driver, VAProfile profile) {
    switch (profile) {
    case VAProfileNone: return !driver->mode.no_vpp;
    case VAProfileH264ConstrainedBaseline: return !driver->mode.main_high;
    case VAProfileH264Main: case VAProfileH264High: return true;
    case VAProfileHEVCMain: return !driver->mode.no_hevc;
    default: return false;
    }
}

static VAStatus query_profiles(VADriverContextP ctx, VAProfile *list, int *count) {
    static const VAProfile all[] = {VAProfileNone, VAProfileH264ConstrainedBaseline, VAProfileH264Main, VAProfileH264High, VAProfileHEVCMain};
    ENTER;
    *count = 0;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) if (has_profile(driver, all[i])) list[(*count)++] = all[i];
    return VA_STATUS_SUCCESS;
}

static VAStatus query_entrypoints(VADriverContextP ctx, VAProfile profile, VAEntrypoint *list, int *count) {
    ENTER;
    *count = 0;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    list[(*count)++] = profile == VAProfileNone ? VAEntrypointVideoProc :
                       driver->mode.no_encode ? VAEntrypointVLD :
                       driver->mode.low_power ? VAEntrypointEncSliceLP : VAEntrypointEncSlice;
    return VA_STATUS_SUCCESS;
}

static bool has_entrypoint(const struct driver *driver, VAProfile profile, VAEntrypoint entrypoint) {
    if (!has_profile(driver, profile)) return false;
    if (profile == VAProfileNone) return entrypoint == VAEntrypointVideoProc;
    return !driver->mode.no_encode && entrypoint == (driver->mode.low_power ? VAEntrypointEncSliceLP : VAEntrypointEncSlice);
}

static VAStatus get_attributes(VADriverContextP ctx, VAProfile profile, VAEntrypoint entrypoint, VAConfigAttrib *list, int count) {
    ENTER;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    if (!has_entrypoint(driver, profile, entrypoint)) return VA_STATUS_ERROR_UNSUPPORTED_ENTRYPOINT;
    bool encodes = profile != VAProfileNone, hevc = profile == VAProfileHEVCMain;
    for (int i = 0; i < count; i++) {
        uint32_t value = VA_ATTRIB_NOT_SUPPORTED;
        switch (list[i].type) {
        case VAConfigAttribRTFormat:
            value = VA_RT_FORMAT_YUV420 | (encodes || driver->mode.no_bgrx ? 0 : VA_RT_FORMAT_RGB32);
            break;
        case VAConfigAttribMaxPictureWidth: case VAConfigAttribMaxPictureHeight: value = MAX_EDGE; break;
        default: break;
        }
        if (encodes) switch (list[i].type) {
        case VAConfigAttribRateControl: value = VA_RC_CQP | VA_RC_CBR | VA_RC_VBR; break;
        case VAConfigAttribEncPackedHeaders:
            value = driver->mode.own_headers ? VA_ENC_PACKED_HEADER_NONE :
                    VA_ENC_PACKED_HEADER_SEQUENCE | VA_ENC_PACKED_HEADER_PICTURE | VA_ENC_PACKED_HEADER_SLICE |
                    VA_ENC_PACKED_HEADER_MISC | VA_ENC_PACKED_HEADER_RAW_DATA;
            break;
        case VAConfigAttribEncMaxRefFrames: value = hevc && driver->mode.both_lists ? 1 | 1 << 16 : 1; break;
        case VAConfigAttribMaxFrameSize: value = 1; break;
        case VAConfigAttribEncIntraRefresh:
            if (driver->mode.refresh && !hevc) value = VA_ENC_INTRA_REFRESH_ROLLING_COLUMN | VA_ENC_INTRA_REFRESH_ROLLING_ROW | VA_ENC_INTRA_REFRESH_P_FRAME;
            break;
        case VAConfigAttribEncROI: {
            VAConfigAttribValEncROI regions = {.bits = {.num_roi_regions = MAX_REGIONS, .roi_rc_qp_delta_support = 1}};
            if (driver->mode.roi && !hevc) value = regions.value;
            break;
        }
        case VAConfigAttribPredictionDirection:
            if (hevc) value = VA_PREDICTION_DIRECTION_PREVIOUS | (driver->mode.both_lists ? VA_PREDICTION_DIRECTION_BI_NOT_EMPTY : 0);
            break;
        case VAConfigAttribEncHEVCFeatures: {
            /* It can do nothing but I_PCM well, and says so. */
            VAConfigAttribValEncHEVCFeatures features = {.bits = {.pcm = driver->mode.no_pcm ? VA_FEATURE_NOT_SUPPORTED : VA_FEATURE_REQUIRED, .cu_qp_delta = VA_FEATURE_SUPPORTED}};
            if (hevc) value = features.value;
            break;
        }
        case VAConfigAttribEncHEVCBlockSizes: {
            /* Coding tree blocks of 32, coding blocks from 8 on, transform blocks of 4 to 32, I_PCM of 8 to 32. */
            VAConfigAttribValEncHEVCBlockSizes sizes = {.bits = {.log2_max_coding_tree_block_size_minus3 = 2, .log2_min_coding_tree_block_size_minus3 = 2,
                .log2_max_luma_transform_block_size_minus2 = 3, .max_max_transform_hierarchy_depth_inter = 2, .max_max_transform_hierarchy_depth_intra = 2,
                .log2_max_pcm_coding_block_size_minus3 = 2}};
            if (hevc) value = sizes.value;
            break;
        }
        case VAConfigAttribEncMaxSlices: value = MAX_SLICES; break;
        case VAConfigAttribEncSliceStructure: value = VA_ENC_SLICE_STRUCTURE_ARBITRARY_MACROBLOCKS; break;
        default: break;
        }
        list[i].value = value;
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus create_config(VADriverContextP ctx, VAProfile profile, VAEntrypoint entrypoint, VAConfigAttrib *list, int count, VAConfigID *id) {
    ENTER;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    if (!has_entrypoint(driver, profile, entrypoint)) return VA_STATUS_ERROR_UNSUPPORTED_ENTRYPOINT;
    struct config *config = calloc(1, sizeof *config);
    if (!config) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    *config = (struct config){profile, entrypoint, VA_RC_CQP, 0};
    for (int i = 0; i < count; i++) {
        if (list[i].type == VAConfigAttribRateControl) config->rate_control = list[i].value;
        if (list[i].type == VAConfigAttribEncPackedHeaders) config->packed_headers = list[i].value;
    }
    int index = -1;
    if (!(driver->mode.own_headers && config->packed_headers)) index = table_put((void **)driver->configs, config);
    if (index < 0) {
        free(config);
        return VA_STATUS_ERROR_ATTR_NOT_SUPPORTED;
    }
    *id = CONFIGS + (uint32_t)index;
    return VA_STATUS_SUCCESS;
}

static VAStatus destroy_config(VADriverContextP ctx, VAConfigID id) {
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    if (!config) return VA_STATUS_ERROR_INVALID_CONFIG;
    driver->configs[id - CONFIGS] = NULL;
    free(config);
    return VA_STATUS_SUCCESS;
}

static VAStatus query_config(VADriverContextP ctx, VAConfigID id, VAProfile *profile, VAEntrypoint *entrypoint, VAConfigAttrib *list, int *count) {
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    if (!config) return VA_STATUS_ERROR_INVALID_CONFIG;
    *profile = config->profile;
    *entrypoint = config->entrypoint;
    list[0] = (VAConfigAttrib){VAConfigAttribRTFormat, VA_RT_FORMAT_YUV420};
    *count = 1;
    return VA_STATUS_SUCCESS;
}

void config_wire(struct VADriverVTable *table) {
    table->vaQueryConfigProfiles = query_profiles;
    table->vaQueryConfigEntrypoints = query_entrypoints;
    table->vaGetConfigAttributes = get_attributes;
    table->vaCreateConfig = create_config;
    table->vaDestroyConfig = destroy_config;
    table->vaQueryConfigAttributes = query_config;
}
