/**
 * The uids of VMMs: base + net id · 256 + address offset, and the last for builders and probes. systemd
 * leaves this range to containers and gives it to none by itself, so no person or service of the host
 * has one of them.
 */
export const vmUids: { readonly first: number; readonly count: number; readonly builder: number } =
  {
    first: 1_900_000_000,
    count: 4096 * 256,
    builder: 1_900_000_000 + 4096 * 256 - 1,
  };

/** Whether a process of this user can be a VMM of mvm: root until it dropped its privileges, or one of its own uids. */
export function isVmmUid(uid: number): boolean {
  return uid === 0 || (uid >= vmUids.first && uid < vmUids.first + vmUids.count);
}
