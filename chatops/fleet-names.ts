// Owns what completion knows of the fleet: names out of status and tasks, asked for quietly between commands.

import { randomBytes } from 'node:crypto';
import { check } from '../protocols/codec.ts';
import type { Command } from '../protocols/control.ts';
import { statusViewSchema, tasksViewSchema } from '../protocols/views.ts';
import type { Attachment } from './attachment.ts';
import type { FleetNames } from './completion.ts';

export interface FleetNamesKeeper {
  known(): FleetNames;
  /** Asks again; keeps what it had when nobody answers. */
  refresh(signal: AbortSignal): Promise<void>;
}

export function createFleetNames(attachment: Attachment): FleetNamesKeeper {
  let known: FleetNames = { hosts: [], tags: [], tasks: [], operators: [] };

  async function viewOf(command: Command, signal: AbortSignal): Promise<unknown> {
    const id = `names-${randomBytes(12).toString('hex')}`;
    for await (const event of attachment.run({ version: 1, id, command, follow: false }, { signal })) {
      if (event.kind === 'view') return event.data;
    }
    return undefined;
  }

  return {
    known: () => known,
    async refresh(signal) {
      try {
        const status = check(statusViewSchema, await viewOf({ name: 'status' }, signal), 'status');
        const { tasks } = check(tasksViewSchema, await viewOf({ name: 'tasks', all: true }, signal), 'tasks');
        known = {
          hosts: [...status.peers.map(({ name }) => name), ...status.hostsWithoutPeer],
          tags: [...new Set(status.peers.flatMap(({ tags }) => tags ?? []))],
          tasks: tasks.map(({ id }) => id),
          operators: status.operators ?? [],
        };
      } catch {
        // completion is a comfort: commands report the trouble
      }
    },
  };
}
