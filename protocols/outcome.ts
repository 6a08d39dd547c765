// Owns the words for how a task stands and how it ended (design §6).

import * as v from 'valibot';

export const taskTypeSchema = v.picklist(['commit', 'update-inputs', 'build', 'deploy', 'deploy-device', 'rollback']);
export type TaskType = v.InferOutput<typeof taskTypeSchema>;

export const taskStatusSchema = v.picklist(['pending', 'running', 'completed', 'failed']);
export type TaskStatus = v.InferOutput<typeof taskStatusSchema>;

/** The exact end of a task. Only `succeeded` gives exit status 0. */
export const outcomeSchema = v.picklist([
  'succeeded',
  'degraded',
  'refused',
  'needs-reboot',
  'rolled-back',
  'rollback-failed',
  'failed',
  'cancelled',
  'superseded',
  'skipped-offline',
  'quarantined',
  'unknown',
]);
export type Outcome = v.InferOutput<typeof outcomeSchema>;

/** Outcomes whose task counts as completed: the device runs what was ordered, or the task did what it was asked. */
const completedOutcomes: readonly Outcome[] = ['succeeded', 'degraded', 'needs-reboot'];

export function statusOf(outcome: Outcome): TaskStatus {
  return completedOutcomes.includes(outcome) ? 'completed' : 'failed';
}
