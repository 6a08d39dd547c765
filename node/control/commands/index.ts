// Owns which function carries out which command.

import type { Command, CommandName } from '../../../protocols/control.ts';
import type { CommandContext, CommandEvents } from './command-context.ts';
import { abort, build, decide, deploy, retry } from './deploy.ts';
import { invite, rollback } from './fleet.ts';
import { commit, discard, update } from './project.ts';
import { diff, history, logs, notices, status, task, tasks, watch, whoami } from './views.ts';
import { changeVoters, showVoters } from './voters.ts';

const table: {
  readonly [N in CommandName]: (context: CommandContext, command: Extract<Command, { name: N }>) => CommandEvents;
} = {
  status,
  peers: status,
  whoami,
  diff,
  discard,
  commit,
  update,
  build,
  deploy,
  approve: decide,
  reject: decide,
  abort,
  retry,
  rollback,
  tasks,
  task,
  watch,
  logs,
  history,
  notices,
  invite,
  voters: showVoters,
  'voters-add': changeVoters,
  'voters-remove': changeVoters,
  'voters-replace': changeVoters,
  'peers-remove': changeVoters,
};

/** Carries out a command that was authorised. */
export function carryOutCommand(context: CommandContext): CommandEvents {
  const { command } = context.request;
  const carryOut = table[command.name] as (context: CommandContext, command: Command) => CommandEvents;
  return carryOut(context, command);
}
