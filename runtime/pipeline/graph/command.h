#pragma once
/* The reply to a command while its row goes through the graph: what the rules emit for it, or who
 * refused it and why. One command at a time, on the loop's thread. */
#include "pipeline/graph/graph.h"

struct weir_command;

struct weir_command *weir_command_create(void); /* NULL without memory */
void weir_command_destroy(struct weir_command *command);

/* The row of event `number` goes in next. */
void weir_command_begin(struct weir_command *command, uint64_t number);
/* Of the command that was begun last. */
uint64_t weir_command_number(const struct weir_command *c);
bool weir_command_open(const struct weir_command *command); /* false for NULL */
/* All it leads to has come: the status and the body, good until the next begins. */
int weir_command_end(struct weir_command *command, int *status, struct weir_span *body,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* From within the graph, while one is open. */
int weir_command_emitted(struct weir_command *command, const char *dataset,
                         const struct weir_batch *batch, const int32_t *sel, int32_t count,
                         struct weir_error *err) WEIR_MUST_CHECK;
int weir_command_rejected(struct weir_command *command, const char *dataset, const char *reason,
                          const char *text, struct weir_error *err) WEIR_MUST_CHECK;
/* Its key has this version now; conflict: it expected another. */
void weir_command_version(struct weir_command *command, int64_t version, bool conflict);
