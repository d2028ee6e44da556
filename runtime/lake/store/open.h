#pragma once
/* Any store by its URL:
 *   /data/lake, data/lake, file:///data/lake        a folder
 *   abfss://container@account.dfs.core.windows.net/folder, az://container/folder (account in the
 *   options or the environment), https://account.blob.core.windows.net/container/folder
 *   s3://bucket/folder (s3a:// too)
 * Options are a JSON object with values of the forms weir_store_options says; what is absent comes
 * from the environment variables the services' own tools use. */
#include "core/option.h"
#include "lake/store/store.h"

/* Ended by a NULL name. */
extern const struct weir_option weir_store_options[];

/* True for a URL of an object store: no folder, no ledger beside the tables. */
bool weir_store_is_remote(const char *url);

/* `options` may be NULL. `make`: a folder is made when absent. No request is sent. */
int weir_store_open_url(const char *url, const struct json_t *options, bool make,
                        struct weir_store **out, struct weir_error *err) WEIR_MUST_CHECK;
