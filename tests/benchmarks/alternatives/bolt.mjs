// What one would write with Bolt for Node: acknowledge, then store the credential. It calls Cloudflare with fetch, which
// is faster and smaller here than Cloudflare's SDK for Node.
import { env } from 'node:process';
import bolt from '@slack/bolt';

const { App, HTTPReceiver, LogLevel } = bolt;
const catalogs = `${env.CLOUDFLARE_BASE_URL}/accounts/${env.CLOUDFLARE_ACCOUNT_ID}/basin-catalog`;

const app = new App({
  token: env.SLACK_BOT_TOKEN,
  receiver: new HTTPReceiver({ signingSecret: env.SLACK_SIGNING_SECRET, logLevel: LogLevel.ERROR }),
  clientOptions: { slackApiUrl: env.SLACK_API_URL },
  logLevel: LogLevel.ERROR,
});

async function store(bucket, token) {
  const response = await fetch(`${catalogs}/${bucket}/credential`, {
    method: 'POST',
    headers: { authorization: `Bearer ${env.CLOUDFLARE_API_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ token }),
    signal: AbortSignal.timeout(60_000),
  });
  const answer = await response.json();
  if (!answer.success) throw new Error(answer.errors[0].message);
}

app.view('store_credential', async ({ ack, view, client }) => {
  await ack();
  const { values } = view.state;
  const bucket = values.bucket.bucket.selected_option.value;
  const channel = values.channel.channel.selected_conversation;
  let text = `The credential of \`${bucket}\` is stored.`;
  try {
    await store(bucket, values.token.token.value);
  } catch (error) {
    text = `The credential of \`${bucket}\` was not stored: ${error.message}`;
  }
  await client.chat.postMessage({ channel, text });
});

await app.start({ port: Number(env.PORT), host: '127.0.0.1' });
