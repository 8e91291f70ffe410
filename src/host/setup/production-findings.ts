import {
  type ProductionFindings,
  type PromiseStanding,
  describeStanding,
  judgePromises,
  promiseText,
} from "../../domain/production.ts";
import type { Finding } from "../../ports/host-setup.ts";

/** What `mvm doctor` says of production: a line in all, and one for each promise. */
export function productionFindings(findings: ProductionFindings, nowMs: number): Finding[] {
  const standings = judgePromises(findings, nowMs);
  const lacking = standings.filter(({ state }) => state === "lacking");
  const names = lacking.map(({ promise }) => promise).join(", ");
  return [
    lacking.length === 0
      ? { feature: "production", status: "ok", detail: "microVMs may start", fix: "" }
      : {
          feature: "production",
          status: "missing",
          detail: `no microVM starts: this node lacks ${names}`,
          fix: `as below, or waive what can be waived in ${findings.waiversPath}`,
        },
    ...(findings.waiversProblem === null
      ? []
      : [
          {
            feature: "waivers",
            status: "missing",
            detail: `none holds: ${findings.waiversProblem}`,
            fix: `mend ${findings.waiversPath}, as docs/production.md says`,
          } as const,
        ]),
    ...standings.map(promiseFinding),
  ];
}

function promiseFinding(standing: PromiseStanding): Finding {
  const { promise, state, detail, fix, waiver } = standing;
  const feature = `promise ${promise}`;
  switch (state) {
    case "enforced": {
      const unneeded = waiver === undefined ? "" : "; its waiver is not needed";
      return {
        feature,
        status: "ok",
        detail: `${promiseText(promise)}: ${detail}${unneeded}`,
        fix: "",
      };
    }
    case "waived":
      return { feature, status: "warning", detail: `WAIVED: ${describeStanding(standing)}`, fix };
    case "lacking":
      return {
        feature,
        status: "missing",
        detail: `NOT ENFORCED: ${describeStanding(standing)}`,
        fix,
      };
  }
}
