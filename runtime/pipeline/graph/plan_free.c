/* What a plan owns goes with it. */
#include <stdlib.h>

#include "pipeline/graph/plan.h"

static void fini_expectations(struct weir_plan_expectations *expectations) {
    for (int32_t i = 0; i < expectations->count; i++) {
        for (int32_t t = 0; t < expectations->list[i].term_count; t++) {
            free(expectations->list[i].terms[t].literals);
        }
        free(expectations->list[i].terms);
    }
    free(expectations->list);
}

static void fini_sink(struct weir_plan_sink *sink) {
    free(sink->partition_by);
    free(sink->keys);
    free(sink->zorder);
    free(sink->properties);
    free(sink->options_json);
}

static void fini_rule(struct weir_plan_rule *rule) {
    if (rule == NULL) {
        return;
    }
    for (int32_t i = 0; i < rule->cell_count; i++) {
        weir_schema_unref(rule->cells[i].fields);
    }
    for (int32_t i = 0; i < rule->emit_count; i++) {
        weir_schema_unref(rule->emits[i].schema);
        fini_sink(&rule->emits[i].into);
    }
    free(rule->key);
    free(rule->timers);
    free(rule->migrates);
    free(rule->cells);
    free(rule->emits);
    free(rule);
}

void weir_plan_destroy(struct weir_plan *plan) {
    if (plan == NULL) {
        return;
    }
    fini_sink(&plan->quarantine);
    for (int32_t i = 0; i < plan->source_count; i++) {
        weir_schema_unref(plan->sources[i].schema);
        weir_schema_unref(plan->sources[i].full_schema);
        weir_projection_unref(plan->sources[i].decoded);
        fini_sink(&plan->sources[i].into);
        fini_sink(&plan->sources[i].quarantine);
    }
    for (int32_t i = 0; i < plan->stream_count; i++) {
        struct weir_plan_stream *stream = &plan->streams[i];
        weir_schema_unref(stream->input);
        weir_schema_unref(stream->explode.made);
        weir_schema_unref(stream->map_out);
        weir_schema_unref(stream->output);
        fini_expectations(&stream->expectations);
        fini_expectations(&stream->ensures);
        fini_expectations(&stream->quality);
        free(stream->all_from);
        free(stream->dedup.by);
        for (int32_t k = 0; stream->joins != NULL && k < stream->join_count; k++) {
            free(stream->joins[k].left_on);
            free(stream->joins[k].right_on);
            free(stream->joins[k].left);
        }
        free(stream->joins);
        free(stream->out_columns);
        for (int32_t k = 0; stream->lookups != NULL && k < stream->lookup_count; k++) {
            free(stream->lookups[k].on);
            weir_schema_unref(stream->lookups[k].found);
        }
        free(stream->lookups);
        free(stream->lookup_key);
        free(stream->remember);
        fini_sink(&stream->into);
        fini_sink(&stream->quarantine);
        fini_rule(stream->rule);
    }
    for (int32_t i = 0; i < plan->model_count; i++) {
        struct weir_plan_model *model = &plan->models[i];
        weir_schema_unref(model->input);
        weir_schema_unref(model->output);
        fini_expectations(&model->expectations);
        fini_expectations(&model->tests);
        free(model->all_from);
        free(model->dedup.by);
        free(model->by);
        for (int32_t m = 0; m < model->measure_count; m++) {
            weir_field_fini(&model->measures[m].input);
            weir_field_fini(&model->measures[m].result);
        }
        free(model->measures);
        free(model->migrates);
        free(model->renamed);
        free(model->derives);
        free(model->top.columns);
        free(model->top.per);
        free(model->top.by);
        free(model->unique);
        free(model->lookup_key);
        fini_sink(&model->into);
        fini_sink(&model->quarantine);
    }
    for (int32_t i = 0; plan->nulls != NULL && i < plan->function_count; i++) {
        free(plan->nulls[i].sites);
        if (plan->copies != NULL) {
            free(plan->copies[i].columns);
            free(plan->copies[i].through);
        }
    }
    free(plan->nulls);
    free(plan->copies);
    free(plan->only);
    free(plan->sources);
    free(plan->streams);
    free(plan->models);
    json_decref(plan->root);
    free(plan);
}
