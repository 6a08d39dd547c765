// Owns how a program's run is written down for people: quoted as for a shell, without secrets, and cut where it is long.

/** An expression or a list of paths: the beginning tells what it was. */
const argumentCharactersMax = 240;
const commandCharactersMax = 1_000;
const hidden = '…';
/** Names of options, settings and variables whose value is nobody's business. Public keys are public. */
const secretName =
  /(?<!public[-_]?)(token|secret|passw(or)?d|passphrase|credential|netrc|(private|secret|api)[-_]?key)/i;

/** The program and its arguments in one line. */
export function commandText(program: string, arguments_: readonly string[]): string {
  const shown = arguments_.map((argument, index) =>
    quoted(shortened(isValueOfSecret(arguments_, index) ? hidden : withoutSecrets(argument))),
  );
  const text = [quoted(program), ...shown].join(' ');
  return text.length > commandCharactersMax ? `${text.slice(0, commandCharactersMax)} …` : text;
}

/** `--option access-tokens VALUE` and `--password VALUE`: the name stands in the argument before. */
function isValueOfSecret(arguments_: readonly string[], index: number): boolean {
  const before = arguments_[index - 1];
  if (before === undefined || before.includes('=') || before.includes('/')) return false;
  const isSetting = before.startsWith('-') || arguments_[index - 2] === '--option';
  return isSetting && secretName.test(before);
}

/** `name=value`, `?name=value` and the user part of addresses. */
function withoutSecrets(argument: string): string {
  return argument
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, `$1${hidden}@`)
    .replace(/([\w.-]+)=([^\s&"']+)/g, (whole: string, name: string) =>
      secretName.test(name) ? `${name}=${hidden}` : whole,
    );
}

function shortened(argument: string): string {
  const line = argument.replace(/\s+/g, ' ').trim();
  return line.length > argumentCharactersMax ? `${line.slice(0, argumentCharactersMax)}…` : line;
}

function quoted(argument: string): string {
  return /^[\w@%+=:,./…-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
