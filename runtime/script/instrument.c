/* Rewrites a file so that running it tells which table came from which constructor, and so that
 * powers go through C. One pass over the AST in source order, copying the text between the edits:
 * no line break is ever added, so messages of the rewritten chunk keep their lines. */
#include "script/ast.h"

struct rewriter {
    const struct weir_lua_ast *ast;
    struct weir_buffer *out;
    size_t copied; /* bytes of the source already written */
    int rc;
};

static void put_text(struct rewriter *r, const char *text) {
    if (r->rc == WEIR_OK) {
        r->rc = weir_buffer_append_text(r->out, text);
    }
}

static void copy_to(struct rewriter *r, size_t offset) {
    if (r->rc == WEIR_OK && offset > r->copied) {
        r->rc = weir_buffer_append(r->out, r->ast->source + r->copied, offset - r->copied);
    }
    r->copied = offset;
}

static void visit(struct rewriter *r, const struct weir_lua_node *node);

static void visit_list(struct rewriter *r, const struct weir_lua_list *list) {
    for (const struct weir_lua_node *n = list->first; n != NULL; n = n->next) {
        visit(r, n);
    }
}

static void visit_children(struct rewriter *r, const struct weir_lua_node *node) {
    bool is_a_last = node->tag == LUA_If || node->tag == LUA_Forin || node->tag == LUA_FunctionExpr;
    if (node->tag == LUA_Repeat) {
        visit(r, node->b);
        visit(r, node->a);
        return;
    }
    if (!is_a_last) {
        visit(r, node->a);
    }
    visit_list(r, &node->list);
    visit_list(r, &node->list2);
    if (is_a_last) {
        visit(r, node->a);
    }
    visit(r, node->b);
}

static void visit_table(struct rewriter *r, const struct weir_lua_node *table) {
    if (table->id == 0) {
        visit_children(r, table);
        return;
    }
    copy_to(r, (size_t)table->first);
    put_text(r, " __weir_table(");
    if (r->rc == WEIR_OK) {
        r->rc = weir_buffer_printf(r->out, "%d,", table->id);
    }
    visit_children(r, table);
    copy_to(r, (size_t)table->last + 1);
    put_text(r, ")");
}

static void visit(struct rewriter *r, const struct weir_lua_node *node) {
    if (node == NULL || r->rc != WEIR_OK) {
        return;
    }
    if (node->tag == LUA_Table) {
        visit_table(r, node);
    } else if ((node->tag == LUA_Call || node->tag == LUA_MethodCall) &&
               node->flags == SUGAR_TABLE) {
        visit(r, node->a);
        if (node->list.first->id == 0) {
            visit(r, node->list.first);
            return;
        }
        /* The constructor may stand on the next line, where a parenthesis could not. */
        copy_to(r, (size_t)node->op_first);
        put_text(r, "(");
        visit_table(r, node->list.first);
        put_text(r, ")");
    } else if (node->tag == LUA_Binop && node->op == '^') {
        copy_to(r, (size_t)node->first);
        put_text(r, " __weir_pow(");
        visit(r, node->a);
        copy_to(r, (size_t)node->op_first);
        put_text(r, ",");
        r->copied++;
        visit(r, node->b);
        copy_to(r, (size_t)node->last + 1);
        put_text(r, ")");
    } else {
        visit_children(r, node);
    }
}

int weir_lua_instrument(const struct weir_lua_ast *ast, struct weir_buffer *out) {
    struct rewriter r = {.ast = ast, .out = out, .rc = WEIR_OK};
    /* A byte order mark stays: what follows may begin with another, which is a name's. */
    visit(&r, ast->root);
    copy_to(&r, ast->length);
    return r.rc;
}
