#pragma once
/* A simulated disk under the file layer, because kill -9 keeps the page cache and so never finds a
 * missing sync. What was written but not synced is volatile: at a power loss each 512-byte sector
 * is kept, lost or torn by the seed, a changed size likewise, and each directory change not synced
 * happens or not, in any combination. A failed sync does what Linux does: the pages count as clean
 * afterwards although they never reached the disk.
 *
 * Any thread for the files, one for what is declared here. Deterministic by seed as far as the
 * order of operations is. Paths are compared as text; directories must be made. */
#include <stdbool.h>
#include <stdint.h>

#include "core/file.h"

struct weir_files_sim;

/* NULL when out of memory. */
struct weir_files_sim *weir_files_sim_create(uint64_t seed);
/* All files must have been closed. */
void weir_files_sim_destroy(struct weir_files_sim *sim);
struct weir_files *weir_files_sim_files(struct weir_files_sim *sim);

/* From the n-th changing operation from now on (1 = the next) everything answers -EIO, the n-th
 * itself happening in part; 0 disarms. */
void weir_files_sim_crash_after(struct weir_files_sim *sim, uint64_t operations);
/* Asked before each changing operation, so that several simulated disks can stop at one instant:
 * after the first false everything answers -EIO, that operation itself happening in part. NULL:
 * not asked. */
void weir_files_sim_set_power(struct weir_files_sim *sim, bool (*on)(void *context), void *context);
bool weir_files_sim_crashed(const struct weir_files_sim *sim);
/* The n-th sync of a file from now on fails with EIO; 0 disarms. */
void weir_files_sim_fail_sync(struct weir_files_sim *sim, uint64_t nth);
/* Bytes that may still be allocated before -ENOSPC; UINT64_MAX = no end. */
void weir_files_sim_set_space(struct weir_files_sim *sim, uint64_t bytes);
/* Transfers are cut short at random and interrupted (-EINTR). */
void weir_files_sim_short_transfers(struct weir_files_sim *sim, bool on);
/* Power is lost and comes back: forgets what the seed says; open files are dead from here on, and
 * locks are free. */
void weir_files_sim_power_loss(struct weir_files_sim *sim);
/* Only the process died: all that was written is still there, synced or not; open files are dead
 * and locks free. */
void weir_files_sim_process_loss(struct weir_files_sim *sim);
uint64_t weir_files_sim_operations(const struct weir_files_sim *sim); /* changing ones so far */
/* Changes bytes as bit rot would: both what is read now and what is on disk. False when there is
 * no such file or it is shorter. */
bool weir_files_sim_damage(struct weir_files_sim *sim, const char *path, uint64_t offset,
                           uint8_t xor_with);
