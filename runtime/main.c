/* Arguments, signals, exit: nothing else. */
#include <signal.h>
#include <stdio.h>

#include "cli/cli.h"
#include "core/fault.h"
#include "script/script.h"

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    weir_script_block_signals();
    if (!weir_fault_init()) {
        return WEIR_EXIT_USAGE;
    }
    int code = weir_cli_main(argc, argv);
    weir_fault_report();
    if (fflush(stdout) != 0 && code == WEIR_EXIT_DONE) {
        code = WEIR_EXIT_ENVIRONMENT;
    }
    return code;
}
