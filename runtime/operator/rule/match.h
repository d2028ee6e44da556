#pragma once
/* The matcher of a pattern: its loop calls what abi/match.h declares. One thread (the loop). */

struct rule_match; /* what it works with, beside the state of the rule the pattern is */
void rule_match_destroy(struct rule_match *match); /* NULL is fine */
