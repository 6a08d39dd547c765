// Owns the splitting of a program's output into lines. A program may write without end and without newlines: what is kept
// of one line is bounded, and the line says that it was cut.

import { StringDecoder } from 'node:string_decoder';

export const cutMark = ' …[cut]';

export interface LineSplitter {
  push(chunk: Uint8Array): void;
  /** Delivers a last line without a newline. */
  end(): void;
}

/** Calls onLine for each line without its newline, cut after charactersMax characters. Escape sequences stay as they are. */
export function createLineSplitter(charactersMax: number, onLine: (line: string) => void): LineSplitter {
  const decoder = new StringDecoder('utf8');
  let line = '';
  let cut = false;

  function append(text: string): void {
    if (cut || text === '') return;
    line += text;
    if (line.length <= charactersMax) return;
    line = line.slice(0, charactersMax) + cutMark;
    cut = true;
  }

  function finish(): void {
    const whole = line.endsWith('\r') ? line.slice(0, -1) : line;
    line = '';
    cut = false;
    onLine(whole);
  }

  function take(text: string): void {
    let start = 0;
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      append(text.slice(start, end));
      finish();
      start = end + 1;
    }
    append(text.slice(start));
  }

  return {
    push: (chunk) => take(decoder.write(chunk)),
    end() {
      take(decoder.end());
      if (line !== '') finish();
    },
  };
}
