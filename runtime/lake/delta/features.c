/* The gate: which tables this binary may read, and which it may append to (docs/formats/delta.md).
 * What is not known is refused by name; refusing is always safe, guessing never. */
#include <stdio.h>
#include <string.h>

#include "lake/delta/schema_json.h"
#include "lake/delta/snapshot.h"

static const char *const reader_features[] = {
    "columnMapping", "deletionVectors",      "timestampNtz",        "v2Checkpoint",
    "typeWidening",  "typeWidening-preview", "vacuumProtocolCheck",
};

/* Those that a blind append owes nothing to, or whose duty is checked below. */
static const char *const append_features[] = {
    "appendOnly",           "invariants",
    "checkConstraints",     "generatedColumns",
    "allowColumnDefaults",  "changeDataFeed",
    "identityColumns",      "domainMetadata",
    "inCommitTimestamp",    "inCommitTimestamp-preview",
    "columnMapping",        "deletionVectors",
    "timestampNtz",         "v2Checkpoint",
    "vacuumProtocolCheck",  "typeWidening",
    "typeWidening-preview", "rowTracking",
    "clustering",
};

static bool known(const char *feature, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(feature, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

int weir_delta_check_readable(const struct weir_delta_protocol *protocol, struct weir_error *err) {
    if (protocol->reader_version < 1 || protocol->reader_version > 3 ||
        (protocol->reader_version == 3 && protocol->writer_version < 7)) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "table protocol (reader %d, writer %d) is not one this version reads "
                              "(reader 1 to 3); use a newer weir, or the engine that wrote it",
                              protocol->reader_version, protocol->writer_version);
    }
    if (protocol->reader_version < 3) {
        return WEIR_OK;
    }
    if (protocol->reader_feature_count < 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "table protocol 3 has no readerFeatures list");
    }
    for (int32_t i = 0; i < protocol->reader_feature_count; i++) {
        if (!known(protocol->reader_features[i], reader_features,
                   sizeof(reader_features) / sizeof(reader_features[0]))) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "the table needs the reader feature \"%.100s\", which weir does "
                                  "not have; read it with the engine that turned it on, or drop "
                                  "the feature there",
                                  protocol->reader_features[i]);
        }
    }
    return WEIR_OK;
}

/* Every append would have to move the column's mark in the metadata, so that no two writers could
 * ever append at once. */
static int refuse_identity(const struct weir_delta_metadata *metadata, struct weir_error *err) {
    char name[128];
    if (weir_delta_schema_has_metadata(metadata->schema_string, "delta.identity.start", name,
                                       sizeof(name))) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "column %s of the table is an identity column, whose numbers weir "
                              "does not give out; number the rows in the stream, or write to "
                              "another table",
                              name);
    }
    return WEIR_OK;
}

int weir_delta_check_appendable(const struct weir_delta_protocol *protocol,
                                const struct weir_delta_metadata *metadata,
                                struct weir_error *err) {
    if (protocol->writer_version < 1 || protocol->writer_version > 7) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "table protocol (reader %d, writer %d) is not one this version "
                              "writes (writer 1 to 7); use a newer weir",
                              protocol->reader_version, protocol->writer_version);
    }
    int32_t count = protocol->writer_version == 7 ? protocol->writer_feature_count : 0;
    if (count < 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "table protocol 7 has no writerFeatures list");
    }
    for (int32_t i = 0; i < count; i++) {
        if (!known(protocol->writer_features[i], append_features,
                   sizeof(append_features) / sizeof(append_features[0]))) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "the table needs the writer feature \"%.100s\", which weir does "
                                  "not have; drop the feature, or write to a new table",
                                  protocol->writer_features[i]);
        }
    }
    const char *mapping = weir_delta_metadata_property(metadata, "delta.columnMapping.mode");
    if (mapping != NULL && strcmp(mapping, "none") != 0 && strcmp(mapping, "name") != 0 &&
        strcmp(mapping, "id") != 0) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "the table uses column mapping in the mode %.20s; weir knows the "
                              "modes name and id",
                              mapping);
    }
    return refuse_identity(metadata, err);
}
