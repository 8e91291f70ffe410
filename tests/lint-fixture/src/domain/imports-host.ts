import { x } from "../host/thing.ts";
export const y: number = x;
