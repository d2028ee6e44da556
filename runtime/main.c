/* Arguments, signals, exit: nothing else. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/fault.h"
#include "script/script.h"

#ifdef WEIR_NEEDS_V3
/* The rest of the binary is built for x86-64-v3 (AVX2, BMI, FMA: every server processor since 2015)
 * and would die of an illegal instruction anywhere; this file alone is built for any x86-64. */
__attribute__((constructor(101))) static void refuse_old_processor(void) {
    __builtin_cpu_init();
    const char *missing = !__builtin_cpu_supports("avx2")   ? "AVX2"
                          : !__builtin_cpu_supports("bmi")  ? "BMI1"
                          : !__builtin_cpu_supports("bmi2") ? "BMI2"
                          : !__builtin_cpu_supports("fma")  ? "FMA"
                                                            : NULL;
    if (missing != NULL) {
        char text[256];
        int length = snprintf(text, sizeof(text),
                              "weir: this processor has no %s; this build needs x86-64-v3 (Intel "
                              "Haswell, AMD Excavator or later). Use such a machine, or give a "
                              "virtual one its host's processor (QEMU: -cpu host)\n",
                              missing);
        _exit(write(STDERR_FILENO, text, (size_t)length) == length ? WEIR_EXIT_ENVIRONMENT
                                                                   : WEIR_EXIT_BUG);
    }
}
#endif

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
