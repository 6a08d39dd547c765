// Owns the joining of the journal's parts: reports, their exchange, task logs, theirs.

import type { Report } from '../../protocols/journal.ts';
import { pullReports, serveReports } from './exchange.ts';
import type { Journal, JournalComponents, JournalInit } from './journal-types.ts';
import { readPages, readRemoteLines, serveLogs } from './log-exchange.ts';
import { createReports } from './reports.ts';
import { createTaskLogs } from './task-logs.ts';

/** Creates this peer's journal. Others are answered from `start` on. */
export function createJournal(init: JournalInit): (components: JournalComponents) => Journal {
  return (components) => {
    const { mesh, store, verifySignature } = components;
    const logger = components.logger.child({ room: 'journal' });
    const reports = createReports(init, { ...components, logger });
    const logs = createTaskLogs(init, { ...components, logger });
    const listeners = new Set<(report: Report) => void>();
    let isServing = false;

    return {
      async start() {
        await reports.start();
        await logs.start();
        if (isServing) return;
        isServing = true;
        serveReports({ mesh, reports });
        serveLogs(mesh, logs);
      },
      stop: () => logs.stop(),
      incarnation: () => reports.head().incarnation,
      lastSequence: () => reports.head().sequence,
      async append(draft, alongside = []) {
        const report = await reports.append(draft, alongside);
        for (const listener of listeners) listener(report);
        return report;
      },
      onAppended(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      read: (from, limit) => reports.read(from, limit),
      async acknowledge(known) {
        // The next acknowledgement says the same and more.
        await reports.acknowledge(known).catch((error: unknown) => {
          logger.warn({ error }, 'reports that the ledger has could not be removed');
        });
      },
      pull: (request) => pullReports({ store, mesh, verifySignature }, request),
      taskLog: (task) => logs.taskLog(task),
      async *readLogs(request) {
        if (request.peer !== init.self) {
          yield* readRemoteLines(mesh, request);
          return;
        }
        const { follow, signal } = request;
        for await (const page of readPages(logs, request.task, { from: 0, follow, signal })) yield* page.lines;
        signal.throwIfAborted();
      },
    };
  };
}
