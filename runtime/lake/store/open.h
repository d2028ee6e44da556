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

/* What every opening of a store takes, for tables of options: Azure's from `account` on, S3's from
 * `region` on. */
#define WEIR_STORE_OPTIONS                                                                         \
    {.name = "endpoint",                                                                           \
     .form = WEIR_OPTION_TEXT,                                                                     \
     .example = "\"https://s3.eu-west-1.amazonaws.com\""},                                         \
        {.name = "retry_for", .form = WEIR_OPTION_DURATION, .example = "\"10m\""},                 \
        {.name = "ca_file", .form = WEIR_OPTION_PATH},                                             \
        {.name = "account", .form = WEIR_OPTION_TEXT},                                             \
        {.name = "account_key", .form = WEIR_OPTION_SECRET},                                       \
        {.name = "sas", .form = WEIR_OPTION_SECRET}, {.name = "tenant", .form = WEIR_OPTION_TEXT}, \
        {.name = "client_id", .form = WEIR_OPTION_TEXT},                                           \
        {.name = "client_secret", .form = WEIR_OPTION_SECRET},                                     \
        {.name = "authority", .form = WEIR_OPTION_TEXT},                                           \
        {.name = "managed_identity", .form = WEIR_OPTION_FLAG},                                    \
        {.name = "encryption_scope", .form = WEIR_OPTION_TEXT},                                    \
        {.name = "region", .form = WEIR_OPTION_TEXT},                                              \
        {.name = "access_key_id", .form = WEIR_OPTION_TEXT},                                       \
        {.name = "secret_access_key", .form = WEIR_OPTION_SECRET},                                 \
        {.name = "session_token", .form = WEIR_OPTION_SECRET},                                     \
        {.name = "path_style", .form = WEIR_OPTION_FLAG},                                          \
        {.name = "encryption", .form = WEIR_OPTION_TEXT, .example = "\"aws:kms\""}, {              \
        .name = "encryption_key", .form = WEIR_OPTION_TEXT                                         \
    }

/* Those alone, ended by a NULL name. */
extern const struct weir_option weir_store_options[];

/* True for a URL of an object store: no folder, no ledger beside the tables. */
bool weir_store_is_remote(const char *url);

/* `options` may be NULL. `make`: a folder is made when absent. No request is sent. */
int weir_store_open_url(const char *url, const struct json_t *options, bool make,
                        struct weir_store **out, struct weir_error *err) WEIR_MUST_CHECK;
