/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/vcpu_priv.h - the steps of the vCPU's loop; all in the vCPU's thread
 */
#pragma once

#include "machine/vcpu.h"

/* INIT, SIPI and NMI that others sent. */
void vcpu_take_events(struct vcpu_thread *t);
/* Hands an interrupt over when the CPU can take it, else asks for the window. */
void vcpu_offer_interrupt(struct vcpu_thread *t);
void vcpu_serve_exit(struct vcpu_thread *t);
