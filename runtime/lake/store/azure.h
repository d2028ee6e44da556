#pragma once
/* Azure Blob and ADLS Gen2 as a store. One of the ways to prove who we are is used, in this order:
 * account_key, sas, client_secret (OAuth client credentials), identity_endpoint (managed identity);
 * none: a public container, read. Texts are borrowed for the call. */
#include "core/http.h"
#include "core/option.h"
#include "lake/store/store.h"

struct weir_azure_config {
    const char *endpoint; /* "https://account.blob.core.windows.net", or an emulator's with path */
    const char *account;
    const char *container;
    const char *root;        /* folder in the container, "" for all of it */
    const char *account_key; /* base64 */
    const char *sas;
    const char *authority; /* "https://login.microsoftonline.com" */
    const char *tenant;
    const char *client_id; /* also of a user-assigned managed identity; may be NULL then */
    const char *client_secret;
    const char *encryption_scope;  /* a customer-managed key's scope, or NULL */
    const char *identity_endpoint; /* "http://169.254.169.254/metadata/identity/oauth2/token" */
};

int weir_store_azure_create(const char *url, const struct weir_azure_config *config,
                            const struct weir_http_options *http, struct weir_store **out,
                            struct weir_error *err) WEIR_MUST_CHECK;
