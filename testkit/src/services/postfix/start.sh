# start.sh FOLDER PORT USER PASSWORD: a Postfix of its own in that folder, in the foreground, as root. It takes mail for
# interop.test after AUTH, offers STARTTLS with the certificate in the folder, and puts everything into FOLDER/mail/inbox.
set -eu
folder=$1 port=$2 user=$3 password=$4
conf=$folder/conf
daemons=$(/usr/sbin/postconf -dh daemon_directory)
owner=$(stat -c %u "$folder")
# Mail is never delivered as root.
if [ "$owner" = 0 ]; then owner=$(id -u postfix); fi
mkdir -p "$conf/sasl" "$folder/queue" "$folder/data" "$folder/mail"
chmod 755 "$folder"
chown postfix "$folder/data"
chown "$owner" "$folder/mail"
cat >"$conf/main.cf" <<END
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
daemon_directory = $daemons
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = $folder/postfix.log
maillog_file_prefixes = $folder
myhostname = localhost
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
biff = no
smtputf8_enable = yes
message_size_limit = 10240000
virtual_mailbox_domains = interop.test
virtual_mailbox_base = $folder/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:$owner
virtual_gid_maps = static:$owner
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = $folder/certificate.pem
smtpd_tls_key_file = $folder/key.pem
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = interop.test
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
END
cat >"$conf/master.cf" <<END
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
END
cat >"$conf/sasl/smtpd.conf" <<END
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $conf/sasl/sasldb2
mech_list: PLAIN LOGIN
END
printf %s "$password" | saslpasswd2 -c -p -f "$conf/sasl/sasldb2" -u interop.test "$user"
chown postfix "$conf/sasl/sasldb2"
/usr/sbin/postfix -c "$conf" check
exec "$daemons/master" -c "$conf" -d
