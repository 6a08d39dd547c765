// Owns the flake's additive output `parley`: what hosts there are to tag and approve, who the operators are. Unknown
// fields are ignored, so that a flake may be written for a newer Parley.

import * as v from 'valibot';
import { nameSchema, revisionSchema } from './primitives.ts';

const approvalSchema = v.union([
  v.picklist(['manual', 'auto']),
  v.object({ autoAfter: v.pipe(v.string(), v.maxLength(16)) }),
]);
const chatIdSchema = v.pipe(v.string(), v.maxLength(64));

export const hostPolicySchema = v.object({
  tags: v.optional(v.pipe(v.array(nameSchema), v.maxLength(64)), []),
  /** `manual` (default) waits for a person; `auto` does not; `autoAfter` counts as `manual` until the host has graduated. */
  approval: v.optional(approvalSchema, 'manual'),
  monitor: v.optional(v.boolean(), false),
});
export type HostPolicy = v.InferOutput<typeof hostPolicySchema>;

export const operatorRoleSchema = v.picklist(['viewer', 'deployer', 'approver', 'admin']);
export type OperatorRole = v.InferOutput<typeof operatorRoleSchema>;

export const operatorSchema = v.object({
  roles: v.optional(v.pipe(v.array(operatorRoleSchema), v.maxLength(8)), []),
  discord: v.optional(chatIdSchema),
  slack: v.optional(chatIdSchema),
});
export type Operator = v.InferOutput<typeof operatorSchema>;

/** The checked content of the `parley` output. */
export const parleyOutputSchema = v.object({
  hosts: v.optional(v.record(nameSchema, hostPolicySchema), {}),
  operators: v.optional(v.record(nameSchema, operatorSchema), {}),
});
export type ParleyOutput = v.InferOutput<typeof parleyOutputSchema>;

/** The policy in force or proposed: the output and the commit that it was read from. */
export const policySchema = v.object({
  revision: revisionSchema,
  hosts: v.record(nameSchema, hostPolicySchema),
  operators: v.record(nameSchema, operatorSchema),
});
export type Policy = v.InferOutput<typeof policySchema>;
