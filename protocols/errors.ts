// Owns the error type that crosses room and process borders: a code to act on, a message for people, a hint for what to
// do next. Everything thrown on purpose is a ParleyError; anything else is a bug of ours.

export interface ParleyErrorInit {
  /** What the person or caller can do next, as a full sentence. */
  readonly hint?: string;
  /** True when the same call may succeed later without any change. Default: false. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** An expected failure. `code` is stable (kebab-case, documented where it is thrown), `message` quotes the values involved. */
export class ParleyError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly retryable: boolean;

  constructor(code: string, message: string, init: ParleyErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = 'ParleyError';
    this.code = code;
    this.hint = init.hint;
    this.retryable = init.retryable ?? false;
  }
}

/** The plain-data form of an error, as it travels in messages and is stored in records. */
export interface ErrorRecord {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly retryable: boolean;
}

/** Turns anything thrown into an ErrorRecord; what is not a ParleyError gets the code `internal`. */
export function toErrorRecord(error: unknown): ErrorRecord {
  if (error instanceof ParleyError) {
    const record = { code: error.code, message: error.message, retryable: error.retryable };
    return error.hint === undefined ? record : { ...record, hint: error.hint };
  }
  return { code: 'internal', message: error instanceof Error ? error.message : String(error), retryable: false };
}

/** What a command prints with --json where it has no answer: one line, so that it is whole among others that follow each other. */
export function errorDocument(error: ErrorRecord): string {
  return JSON.stringify({ version: 1, error });
}

/** The inverse of toErrorRecord, for the side that received the record. */
export function fromErrorRecord(record: ErrorRecord): ParleyError {
  const init = { retryable: record.retryable };
  return new ParleyError(
    record.code,
    record.message,
    record.hint === undefined ? init : { ...init, hint: record.hint },
  );
}
