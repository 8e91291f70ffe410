import { type ChildProcess, type StdioPipe, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { HostLacksError, OperationError } from "../../domain/errors.ts";
import { plainEnvironment } from "../exec.ts";
import { isErrno } from "../files.ts";
import {
  type ProcessIdentity,
  listPids,
  processArguments,
  processStartTicks,
  signalProcess,
} from "../processes.ts";

/** How long a keeper may take to write what is left when its VMM is gone. */
const drainTimeoutMs = 2000;
const pollMs = 5;
/** Of each log, when the caller names no other. */
const defaultKeptBytes = 256 * 1024;

/**
 * Copies what comes on descriptor 3, 4, … to the file named for it, and keeps the last part of each: a
 * file that has grown to twice what is kept is replaced by its own end, in one step. A write that fails,
 * as on a full disk, loses those bytes and nothing else. It ends when nobody can write to it any more.
 */
const program = `
use strict;
use warnings;
use Fcntl;
my ($name, $kept, @paths) = @ARGV;
$0 = $name;
$SIG{$_} = "IGNORE" for qw(HUP INT PIPE TERM);
my %log;
for my $index (0 .. $#paths) {
  open(my $input, "<&=", 3 + $index) or exit 1;
  my %new = (input => $input, path => $paths[$index]);
  reopen(\\%new);
  $log{3 + $index} = \\%new;
}
while (%log) {
  my $ready = "";
  vec($ready, $_, 1) = 1 for keys %log;
  next if select($ready, undef, undef, undef) < 0;
  for my $number (keys %log) {
    next unless vec($ready, $number, 1);
    my $count = sysread($log{$number}{input}, my $bytes, 65536);
    if (!defined $count) { next if $!{EINTR} || $!{EAGAIN}; $count = 0; }
    if ($count == 0) { delete $log{$number}; next; }
    keep($log{$number}, $bytes);
  }
}
sub keep {
  my ($log, $bytes) = @_;
  reopen($log) unless $log->{output};
  return unless $log->{output};
  my $written = syswrite($log->{output}, $bytes);
  $log->{size} += $written if defined $written;
  shorten($log) if $log->{size} > 2 * $kept;
}
sub reopen {
  my ($log) = @_;
  delete $log->{output};
  sysopen(my $output, $log->{path}, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600) or return;
  $log->{output} = $output;
  $log->{size} = -s $output;
}
sub shorten {
  my ($log) = @_;
  my $new = "$log->{path}.new";
  unlink($new);
  if (sysopen(my $from, $log->{path}, O_RDONLY | O_NOFOLLOW)
      && sysopen(my $to, $new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600)) {
    sysseek($from, -$kept, 2);
    my $left = $kept;
    while ($left > 0) {
      my $count = sysread($from, my $bytes, $left < 65536 ? $left : 65536);
      last unless $count;
      last unless (syswrite($to, $bytes) // 0) == $count;
      $left -= $count;
    }
    if ($left == 0 && rename($new, $log->{path})) { reopen($log); return; }
    unlink($new);
  }
  # No room for both: the bound matters more than what was there.
  truncate($log->{output}, 0);
  $log->{size} = 0;
}
`;

export interface ConsoleKeeper {
  /** The descriptors that a VMM inherits, in the order of the paths; `handOver` gives them up here. */
  readonly inputs: readonly Socket[];
  /** To be called when the VMM was spawned, or was not: the keeper ends with the last who holds an input. */
  handOver(): void;
  /** Ends when all that was printed is written. */
  drained(): Promise<void>;
}

/**
 * Starts the process that keeps the logs of a VMM within a bound: it outlives mvm and ends with the VMM.
 * There is one for each VMM, and so it is small: Perl is on every Debian and takes 6 MiB, Node takes 45.
 *
 * @param runDir names the keeper, so that it is found again by `untilDrained`.
 * @throws HostLacksError without Perl.
 */
export async function startConsoleKeeper(
  runDir: string,
  paths: readonly string[],
  keptBytes: number = defaultKeptBytes,
): Promise<ConsoleKeeper> {
  const inputs: StdioPipe[] = paths.map(() => "pipe");
  const child = spawn("perl", ["-e", program, keeperName(runDir), String(keptBytes), ...paths], {
    env: plainEnvironment,
    cwd: "/",
    detached: true,
    stdio: ["ignore", "ignore", "ignore", ...inputs],
  });
  await spawned(child);
  child.unref();
  const ended = once(child, "exit");
  const sockets = child.stdio.slice(3) as Socket[];
  return {
    inputs: sockets,
    handOver: () => sockets.forEach((socket) => socket.destroy()),
    drained: async () => {
      await Promise.race([ended, delay(drainTimeoutMs, undefined, { ref: false })]);
    },
  };
}

/** Waits until the keeper of a VMM that is gone has written its last lines; one that hangs is ended. */
export async function untilDrained(runDir: string): Promise<void> {
  const deadlineMs = performance.now() + drainTimeoutMs;
  for (;;) {
    const keeper = await findKeeper(runDir);
    if (keeper === undefined) return;
    if (performance.now() >= deadlineMs) {
      await signalProcess(keeper, "SIGKILL");
      return;
    }
    await delay(pollMs);
  }
}

function keeperName(runDir: string): string {
  return `mvm-console ${runDir}`;
}

async function findKeeper(runDir: string): Promise<ProcessIdentity | undefined> {
  for (const pid of await listPids()) {
    const [name, ...others] = (await processArguments(pid)) ?? [];
    // Perl puts its name in place of its arguments and leaves the rest of their room empty.
    if (name !== keeperName(runDir) || others.some((other) => other !== "")) continue;
    const startTicks = await processStartTicks(pid);
    if (startTicks !== undefined) return { pid, startTicks };
  }
  return undefined;
}

async function spawned(child: ChildProcess): Promise<void> {
  try {
    await once(child, "spawn");
  } catch (error) {
    if (isErrno(error, "ENOENT")) {
      throw new HostLacksError("perl is not installed", {
        hint: "run `mvm add host`",
        cause: error,
      });
    }
    throw new OperationError("cannot start the keeper of a console", { cause: error });
  }
}
