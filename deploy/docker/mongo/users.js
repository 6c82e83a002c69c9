// Run once by the mongo image, on a new volume: the pipeline's own user and one that only reads (Metabase).
// Neither may do anything outside the pipeline's database. Later changes of .env do not reach them:
//   docker compose exec mongo mongosh -u root -p --eval 'db.getSiblingDB("lastmile").changeUserPassword(...)'
const name = process.env.LASTMILE_DATABASE;
// The users live in the database `lastmile` whatever the data's database is called: see authSource.
const users = db.getSiblingDB("lastmile");
users.createUser({
  user: "lastmile",
  pwd: process.env.LASTMILE_PASSWORD,
  // dbAdmin because changing the time after which positions expire is `collMod`.
  roles: [
    { role: "readWrite", db: name },
    { role: "dbAdmin", db: name },
  ],
});
users.createUser({
  user: "reader",
  pwd: process.env.LASTMILE_READER_PASSWORD,
  roles: [{ role: "read", db: name }],
});
