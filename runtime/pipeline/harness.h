#pragma once
/* See abi/harness.h. The command that starts the VM says which one harnesses load rules into. */
#include "script/script.h"

/* NULL, before the VM goes: closes what Lua left open. */
void weir_harness_use(struct weir_script *script);
