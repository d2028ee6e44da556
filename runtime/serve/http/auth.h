#pragma once
/* Who may send: bearer tokens and signatures over the body, compared in constant time. */
#include "source/http/http.h"

/* `authorization`: the header's value; `tokens`: apart by white space or commas. */
bool http_bearer_matches(const char *authorization, const char *tokens);
/* `given`: the signature header's value. */
bool http_signature_matches(const struct weir_http_signature *signature, const char *given,
                            const uint8_t *body, size_t size);
