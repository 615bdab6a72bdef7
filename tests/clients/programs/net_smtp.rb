# Sends one message with Ruby's net/smtp; see README.md.
require 'net/smtp'

file, reverse_path, *forward_paths = ARGV
trust = OpenSSL::SSL::SSLContext.new
trust.ca_file = ENV['SMTP_CA']
trust.verify_mode = OpenSSL::SSL::VERIFY_PEER

smtp = Net::SMTP.new(ENV['SMTP_HOST'], ENV['SMTP_PORT'].to_i)
case ENV['SMTP_TLS']
when 'none' then smtp.disable_starttls
when 'starttls' then smtp.enable_starttls(trust)
when 'implicit' then smtp.enable_tls(trust)
end
words = { helo: ENV['SMTP_HELLO'] }
words.update(user: ENV['SMTP_USER'], secret: ENV['SMTP_PASSWORD'], authtype: :login) unless ENV['SMTP_USER'].empty?
smtp.start(**words) do
  smtp.send_message(File.binread(file), reverse_path, *forward_paths)
end
