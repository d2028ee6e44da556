#pragma once
/* Columns of a table that exists: renamed, dropped, of a wider type. No data file is touched.
 *
 * Renaming and dropping need column mapping, which is turned on where it is not: the names in the
 * files stay, the log maps them. A renamed column remembers its former names (field metadata
 * "weir.formerNames"), so that what was written under one of them, and is not committed yet, finds
 * its way. Wider types need the feature typeWidening: readers cast what older files hold. */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_rename {
    const char *from;
    const char *to;
};

struct weir_delta_widening {
    const char *column;
    const char *type; /* weir's name, or Spark's: "int64", "long" */
};

struct weir_delta_alter_options {
    const struct weir_delta_rename *renames;
    int32_t rename_count;
    const char *const *drops;
    int32_t drop_count;
    const struct weir_delta_widening *widenings;
    int32_t widening_count;
};

/* One commit; none where there is nothing but renames that were made before. WEIR_E_SCHEMA names
 * the column there is none of, the name that is taken, the type that is not wider, the partition
 * column; WEIR_E_UNSUPPORTED the constraint or generated column that reads what would go. */
int weir_delta_alter(struct weir_delta_table *table, const struct weir_delta_alter_options *options,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* The name a column that was once called `former` has now; the caller frees. NULL: none was. */
char *weir_delta_renamed_to(const struct weir_delta_metadata *metadata, const char *former);
/* Every value of `from` is one of `to`, and Delta takes the change (Type Widening). */
bool weir_delta_widens(const struct weir_field *from, const struct weir_field *to);

#ifdef __cplusplus
}
#endif
