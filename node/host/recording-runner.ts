// Owns the telling of which programs some work has run: whoever starts the work hears of each of its programs, through
// however many rooms it goes, and the rooms in between need not know.

import { AsyncLocalStorage } from 'node:async_hooks';
import type { ProgramRun } from '../../protocols/program-run.ts';
import type { ProcessRunner, ProgramRecorder } from '../interfaces.ts';
import { commandText } from './command-text-core.ts';

interface Listener {
  onProgram(run: ProgramRun): void;
  isOver: boolean;
}

/** The given runner, with records of what runs inside `recording`. */
export function createRecordingRunner(runner: ProcessRunner): ProcessRunner & ProgramRecorder {
  const current = new AsyncLocalStorage<Listener>();
  return {
    async run(request) {
      const listener = current.getStore();
      const tell = (exitCode: number | null) => {
        // What the work has left behind (a cache that refreshes itself) is none of its own any more.
        if (listener === undefined || listener.isOver) return;
        listener.onProgram({ command: commandText(request.program, request.arguments), exitCode });
      };
      try {
        const result = await runner.run(request);
        tell(result.exitCode);
        return result;
      } catch (error) {
        tell(null);
        throw error;
      }
    },
    async recording(onProgram, work) {
      const listener = { onProgram, isOver: false };
      try {
        return await current.run(listener, work);
      } finally {
        listener.isOver = true;
      }
    },
  };
}
