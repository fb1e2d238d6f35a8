#!/usr/bin/env node
// Mines with the package `stratum-client` of npm, which speaks Stratum V1; only the hashing is ours.
//
//     stratum_client.js HOST PORT USER    prints a line for each answer: true, or the error
//     stratum_client.js --version
"use strict";

const { createHash } = require("node:crypto");
const path = require("node:path");

const NONCES_AT_ONCE = 4096;
const DIFFICULTY_ONE = 0xffff * 2 ** 208;

const place = process.env.RADPOOL_NPM_DIR || path.join(__dirname, "../../.nodes/npm");
const packaged = path.join(place, "node_modules/stratum-client");

function sha256d(data) {
  return createHash("sha256").update(createHash("sha256").update(data).digest()).digest();
}

// Words of the previous hash come swapped; other numbers are big-endian.
function swapped(hex) {
  return Buffer.from(hex, "hex").swap32();
}

class Miner {
  constructor(session, user) {
    this.session = session;
    this.user = user;
    this.work = null;
    this.rolled = 0;
  }

  // Tries some nonces on one extranonce, and goes on once the messages that have come are read.
  mine() {
    if (this.work !== null) this.tryNonces(this.work);
    setImmediate(() => this.mine());
  }

  tryNonces(work) {
    this.rolled += 1;
    const extranonce2 = this.rolled.toString(16).padStart(2 * work.extraNonce2Size, "0");
    const header = this.header(work, extranonce2);
    const target = BigInt(DIFFICULTY_ONE / work.miningDiff);
    const top = Number(target >> 224n);
    for (let nonce = 0; nonce < NONCES_AT_ONCE; nonce += 1) {
      header.writeUInt32LE(nonce, 76);
      const hash = sha256d(header);
      if (hash.readUInt32LE(28) > top) continue;
      if (BigInt(`0x${hash.reverse().toString("hex")}`) > target) continue;
      this.session.submit({
        worker_name: this.user,
        job_id: work.jobId,
        extranonce2,
        ntime: work.ntime,
        nonce: nonce.toString(16).padStart(8, "0"),
      });
    }
  }

  header(work, extranonce2) {
    const coinbase = work.coinb1 + work.extraNonce1 + extranonce2 + work.coinb2;
    let root = sha256d(Buffer.from(coinbase, "hex"));
    for (const sibling of work.merkle_branch) {
      root = sha256d(Buffer.concat([root, Buffer.from(sibling, "hex")]));
    }
    const parts = [swapped(work.version), swapped(work.prevhash), root];
    return Buffer.concat([...parts, swapped(work.ntime), swapped(work.nbits), Buffer.alloc(4)]);
  }
}

function main(host, port, user) {
  const say = (answer) => console.log(JSON.stringify(answer));
  const end = (reason) => {
    console.error(reason);
    process.exit(1);
  };
  const session = require(packaged)({
    server: host,
    port: Number(port),
    worker: user,
    autoReconnectOnError: false,
    onError: (error) => end(error.message),
    onClose: () => end("the connection was closed"),
    onAuthorizeFail: (error) => end(`not authorized: ${JSON.stringify(error)}`),
    onNewMiningWork: (work) => {
      miner.work = work;
    },
    onSubmitWorkSuccess: () => say(true),
    onSubmitWorkFail: (error) => say(error),
  });
  const miner = new Miner(session, user);
  miner.mine();
}

if (process.argv[2] === "--version") {
  console.log(require(path.join(packaged, "package.json")).version);
} else {
  main(...process.argv.slice(2));
}
