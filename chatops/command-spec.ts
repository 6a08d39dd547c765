// Owns the form of a command's description, and the arguments and options that several commands share.

/** What a word stands for; completion offers words of that kind. */
export type WordKind = 'selector' | 'task' | 'host' | 'text' | 'number' | 'command';

export interface ArgumentSpec {
  readonly name: string;
  readonly kind: WordKind;
  readonly required: boolean;
  /** Takes this and all following words. */
  readonly rest?: boolean;
}

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** What the value is called; an option without it is a switch. */
  readonly value?: string;
  readonly required?: boolean;
  readonly summary: string;
}

/** The words of one command as the person gave them. */
export interface GivenWords {
  argument(name: string): string | undefined;
  rest(name: string): string[];
  option(name: string): string | undefined;
  given(name: string): boolean;
}

export interface CommandSpec {
  /** One word, or two where the first is a command of its own: `voters add`. */
  readonly name: string;
  readonly group: 'look' | 'project' | 'fleet' | 'tasks';
  readonly summary: string;
  readonly arguments: readonly ArgumentSpec[];
  readonly options: readonly OptionSpec[];
  /** Lines as a person would type them. */
  readonly examples: readonly string[];
  /** The command starts or names a task that is followed unless --no-wait is given. */
  readonly follows: boolean;
  /** The command looks at the work folder, so that the newest changes there become the draft. */
  readonly usesWorkFolder: boolean;
  readonly build: (words: GivenWords) => unknown;
}

/** Options of the program, before the command, and what their values are called. */
export const programOptions: Readonly<Record<string, string>> = {
  '--state': 'DIR',
  '--config': 'FILE',
  '--work': 'DIR',
  '--as': 'NAME',
};

export const noWait: OptionSpec = { name: 'no-wait', summary: 'return at once instead of following the task' };
export const task: ArgumentSpec = { name: 'TASK', kind: 'task', required: true };
export const host: ArgumentSpec = { name: 'HOST', kind: 'host', required: true };
export const selector: ArgumentSpec = { name: 'SELECTOR', kind: 'selector', required: true };
export const plain = { arguments: [], options: [], follows: false, usesWorkFolder: false } as const;
