#pragma once
/* Private to recovery.c: a run of some datasets (`weir run --only`) has a ledger of its own, at
 * `<ledger>-only/NAME+NAME`. Two ledgers know nothing of each other: where one has begun, another
 * that may write the same table does not. */
#include "core/error.h"
#include "pipeline/graph/plan.h"

/* Before `ledger` is opened. WEIR_E_CONFIG, which names the ledger in the way. */
int only_check(const struct weir_plan *plan, const char *ledger,
               struct weir_error *err) WEIR_MUST_CHECK;
