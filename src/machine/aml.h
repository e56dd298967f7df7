/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/aml.h - writing ACPI machine language (ACPI 6.4, chapter 20) and resource descriptors
 *(6.4)
 *
 * Terms are appended to a strbuf.  Those with a length are opened and closed:
 *
 *	size_t dev = aml_device(b, "COM1");
 *		aml_name_eisaid(b, "_HID", "PNP0501");
 *	aml_end(b, dev);
 */
#pragma once

#include "base/strbuf.h"

/* Names are paths as in ASL with full segments: "_SB_", "\\_S5_". */
size_t aml_scope(struct strbuf *b, const char *name);
size_t aml_device(struct strbuf *b, const char *name);
size_t aml_method(struct strbuf *b, const char *name, unsigned int args);
size_t aml_package(struct strbuf *b, unsigned int elements);
void aml_end(struct strbuf *b, size_t mark);

void aml_name(struct strbuf *b, const char *name); /* Name (name, the term that follows) */
void aml_int(struct strbuf *b, uint64_t v);
void aml_string(struct strbuf *b, const char *s);
void aml_eisaid(struct strbuf *b, const char *id); /* "PNP0501" */
void aml_name_int(struct strbuf *b, const char *name, uint64_t v);
void aml_name_eisaid(struct strbuf *b, const char *name, const char *id);

void aml_notify(struct strbuf *b, const char *name, unsigned int value); /* Notify (name, value) */
/* Registers in I/O space: an OperationRegion @region, and a Field of its 32-bit words, named in
 * their order. */
void aml_io_dwords(struct strbuf *b, const char *region, uint16_t port, const char *const *names,
		   unsigned int n);

/* Inside methods; an argument of the method is given by its number. */
size_t aml_if_arg_and(struct strbuf *b, unsigned int arg, uint32_t mask);
void aml_notify_arg(struct strbuf *b, const char *device, unsigned int arg);
void aml_store_int(struct strbuf *b, uint32_t v, const char *name);
void aml_call(struct strbuf *b, const char *method); /* its arguments follow */
void aml_use(struct strbuf *b, const char *name);    /* the value of a named object */

/* Buffers of resource descriptors, for Name (_CRS, ...). */
size_t aml_resources(struct strbuf *b);
void aml_resources_end(struct strbuf *b, size_t mark);
void aml_res_io(struct strbuf *b, uint16_t port, uint8_t len);
void aml_res_irq(struct strbuf *b, unsigned int irq); /* ISA: edge, active high */
void aml_res_memory32(struct strbuf *b, uint32_t base, uint32_t len);
/* Windows a bridge passes on. */
void aml_res_bus(struct strbuf *b, uint16_t first, uint16_t last);
void aml_res_io_window(struct strbuf *b, uint16_t first, uint16_t last);
void aml_res_memory_window(struct strbuf *b, uint64_t first, uint64_t last, bool prefetch);
