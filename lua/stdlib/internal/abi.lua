-- The ABI this stdlib was written for (runtime/abi/abi.h, WEIR_ABI_VERSION); C compares it at start.
return 3
