/* The Delta log reader on hostile bytes: a commit, then a hint, read through the store that tests
 * use. Whatever comes must be applied or refused, never crash, leak or run away. */
#include <stddef.h>
#include <stdint.h>

#include "lake/delta/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char first[] =
        "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n"
        "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":"
        "\"{\\\"type\\\":\\\"struct\\\",\\\"fields\\\":[]}\",\"partitionColumns\":[]}}\n";
    struct weir_store *store;
    struct weir_delta_snapshot *snapshot;
    struct weir_buffer text;
    if (size > 1u << 20 || weir_store_unsynced_create(&store, NULL) != WEIR_OK) {
        return 0;
    }
    weir_buffer_init(&text, 1u << 24);
    if (weir_store_put(store, "_delta_log/00000000000000000000.json", first, sizeof(first) - 1,
                       NULL) == WEIR_OK &&
        weir_store_put(store, "_delta_log/00000000000000000001.json", data, size, NULL) ==
            WEIR_OK &&
        weir_store_put(store, "_delta_log/_last_checkpoint", data, size < 64 ? size : 64, NULL) ==
            WEIR_OK &&
        weir_delta_snapshot_open(store, "", NULL, &snapshot, NULL) == WEIR_OK) {
        if (weir_delta_show(snapshot, true, &text, NULL) == WEIR_OK) {
            weir_buffer_clear(&text);
        }
        weir_delta_snapshot_destroy(snapshot);
    }
    weir_buffer_fini(&text);
    weir_store_destroy(store);
    return 0;
}
